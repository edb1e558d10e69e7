// table.mjs - what is done with the measured numbers: medians, goals, the printed table, the CSV. No process, no file.
//
// A row: { file, what, threads, context, unit, ours: [...], peer: [...], bench: [...], share, limit, note }
// ours, peer and bench (llama-bench, where it is given) hold one number a round; share is ours / what the machine could do.

export function median(values) {
    if (!values || values.length === 0) return NaN;
    const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// The goals of the issue: decode and prompt as ratios to the best peer setting, ceiling as a share of the memory's
// read bandwidth. AVX2 only: level with the peer without AVX-512.
const GOALS = {
    'smollm2-135m-q8_0': { decode: 1.4, ceiling: 0.85, prompt: 3 },
    'smollm2-135m-q4_0': { decode: 1.4, ceiling: 0.80, prompt: 3 },
    'smollm2-135m-q4_k_m': { decode: 2.5, prompt: 3 },
    'qwen2.5-0.5b-q4_0': { decode: 1.3, ceiling: 0.85, prompt: 2 },
    'qwen2.5-0.5b-q4_k_m': { decode: 2, ceiling: 0.85, prompt: 5 },
    'llama-3.2-1b-q4_0': { decode: 1.3, ceiling: 0.85, prompt: 2 },
    'llama-3.2-1b-q4_k_m': { decode: 1.8, ceiling: 0.85, prompt: 2 },
};
const START_MS = { 'smollm2-135m': 60, 'qwen2.5-0.5b': 150, 'llama-3.2-1b': 300 };

// Milliseconds and megabytes: less is better; the ratio is always "how many times better than the peer".
const lessIsBetter = unit => unit === 'ms' || unit === 'MB';

export function bestPeer(row) {
    const found = [median(row.peer), median(row.bench)].filter(Number.isFinite);
    if (found.length === 0) return NaN;
    return lessIsBetter(row.unit) ? Math.min(...found) : Math.max(...found);
}

export function ratio(row) {
    const ours = median(row.ours), peer = bestPeer(row);
    return lessIsBetter(row.unit) ? peer / ours : ours / peer;
}

// The ratio that a program at the machine's own limit (all of the memory's bandwidth, all of the int8 products) would have:
// where the peer stands near the limit itself, no program can be much faster over the same bytes.
const ratioAtLimit = row => row.share ? ratio(row) / row.share : NaN;

// What a token reads: the weights, and the keys and values of the tokens before it.
export const bytesOf = row => row.bytes + (row.cacheBytes ?? 0) * (row.context + row.count / 2);

const verdict = (name, value, goal, { digits = 2, most = NaN } = {}) =>
    ({ name, value, goal, passed: value >= goal, known: Number.isFinite(value), digits, most });

// What the issue asks of this row: none, one or two verdicts. `rows` are all rows of the run.
export function verdicts(row, rows) {
    const goals = GOALS[row.file] ?? {}, out = [];
    if (row.what === 'decode' && row.context === 0 && row.threads === 2 && !row.cpu && !row.cache) {
        if (goals.decode) out.push(verdict('x peer', ratio(row), goals.decode, { most: ratioAtLimit(row) }));
        if (goals.ceiling) out.push(verdict('of the memory', row.share ?? NaN, goals.ceiling));
    }
    if (row.what === 'prompt' && row.threads === 2 && !row.cpu && goals.prompt)
        out.push(verdict('x peer', ratio(row), goals.prompt, { most: ratioAtLimit(row) }));
    if (row.cpu === 'avx2' && ratio(row)) out.push(verdict('x peer without AVX-512', ratio(row), 1));
    if (row.what === 'decode' && row.context === 1024 && row.threads === 2) {
        const short = rows.find(r => r.file === row.file && r.what === 'decode' && r.context === 128 && r.threads === 2 &&
            r.cache === row.cache);
        const most = short ? bytesOf(short) / bytesOf(row) : NaN;
        if (short) out.push(verdict('of our own at 128', median(row.ours) / median(short.ours), 0.85, { most }));
    }
    if (row.what === 'decode, busy') {
        const idle = rows.find(r => r.file === row.file && r.what === 'decode, idle');
        if (idle) out.push(verdict('of our own idle', median(row.ours) / median(idle.ours), 0.4));
    }
    const shape = Object.keys(START_MS).find(name => row.file.startsWith(name));
    if (row.what === 'start, warm' && shape)
        out.push({ name: 'ms at most', value: median(row.ours), goal: START_MS[shape], known: true, digits: 0,
            passed: median(row.ours) <= START_MS[shape] });
    if (row.what === 'peak memory' && shape)
        out.push({ name: 'MB at most (file + 15 % + cache)', value: median(row.ours), goal: row.limit, known: true,
            digits: 0, passed: median(row.ours) <= row.limit });
    return out;
}

const number = value => !Number.isFinite(value) ? '-' : value >= 1000 ? value.toFixed(0) : value.toFixed(value < 10 ? 2 : 1);
const spread = values => values?.length ? `${number(Math.min(...values))}-${number(Math.max(...values))}` : '-';
const percent = share => Number.isFinite(share) ? `${(share * 100).toFixed(0)} %` : '-';
const name = row => `${row.what}${row.count ? ` ${row.count}` : ''}${row.context ? ` behind ${row.context}` : ''}` +
    `${row.cpu ? `, ${row.cpu} only` : ''}${row.cache ? `, cache ${row.cache}` : ''}`;
const verdictText = v => !v.known ? `no figure for "${v.name}"`
    : `${v.passed ? 'pass' : v.most < v.goal ? 'OVER THE LIMIT' : 'SHORT'}: ${v.value.toFixed(v.digits)} ${v.name}, wanted ` +
      `${v.goal.toFixed(v.digits)}${v.most < v.goal ? `; the bytes alone allow ${v.most.toFixed(2)}` : ''}`;

function align(lines) {
    const widths = lines[0].map((_, i) => Math.max(...lines.map(line => line[i].length)));
    const text = line => `| ${line.map((cell, i) => i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join(' | ')} |`;
    const rule = `|${widths.map((width, i) => '-'.repeat(width + 1) + (i < 2 ? '-' : ':')).join('|')}|`;
    return [text(lines[0]), rule, ...lines.slice(1).map(text)].join('\n');
}

export function printTable(rows) {
    const hasBench = rows.some(row => row.bench?.length);
    const head = ['file', 'what', 'thr.', 'unit', 'ours', 'spread', 'llama.cpp', 'spread', 'x', 'share', 'limit'];
    if (hasBench) head.splice(8, 0, 'llama-bench');
    const lines = rows.map(row => {
        const line = [row.file, name(row), String(row.threads ?? '-'), row.unit, number(median(row.ours)), spread(row.ours),
            number(median(row.peer)), spread(row.peer), number(ratio(row)), percent(row.share), number(ratioAtLimit(row))];
        if (hasBench) line.splice(8, 0, number(median(row.bench)));
        return line;
    });
    return align([head, ...lines]);
}

export function printVerdicts(rows) {
    const all = rows.flatMap(row => verdicts(row, rows).map(v => ({ row, v })));
    const lines = all.map(({ row, v }) => `  ${row.file}, ${name(row)}, ${row.threads} thr.: ${verdictText(v)}`);
    const passed = all.filter(({ v }) => v.known && v.passed).length, known = all.filter(({ v }) => v.known).length;
    return [`done when: ${passed} of ${known} pass${known < all.length ? `, ${all.length - known} without a figure` : ''}`,
        ...lines].join('\n');
}

const cell = value => /[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);

// One line a row and engine: what was measured, median, lowest, highest, each round.
export function csv(rows, about) {
    const head = ['date', 'commit', 'machine', 'flags', 'engine', 'file', 'what', 'cpu', 'threads', 'context', 'count', 'unit',
        'median', 'low', 'high', 'rounds', 'ratio', 'share', 'cache'];
    const lines = [head.join(',')];
    for (const row of rows)
        for (const engine of ['ours', 'peer', 'bench']) {
            const values = row[engine];
            if (!values?.length) continue;
            const ours = engine === 'ours', fixed = value => Number.isFinite(value) ? value.toFixed(3) : '';
            lines.push([about.date, about.commit, about.machine, about.flags, about.engines[engine], row.file, row.what,
                row.cpu ?? '', row.threads ?? '', row.context ?? '', row.count ?? '', row.unit, fixed(median(values)),
                fixed(Math.min(...values)), fixed(Math.max(...values)), values.map(fixed).join(' '),
                ours ? fixed(ratio(row)) : '', ours ? fixed(row.share) : '', row.cache ?? ''].map(cell).join(','));
        }
    return `${lines.join('\n')}\n`;
}
