// build.mjs - makes the site that the program carries (build/web/site) and the npm package (build/web/package).
// usage: node web/build.mjs [site|package]      `make` calls it with both; nothing here asks a network.
import { build as bundle } from 'esbuild';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build as buildConsole } from 'vite';

const web = path.dirname(fileURLToPath(import.meta.url)), root = path.dirname(web), out = path.join(root, 'build/web');
const site = path.join(out, 'site'), pack = path.join(out, 'package');

// Best first. A file that was not built is left out, so that nobody asks for it.
const BUILDS = [
  { file: 'nigh-relaxed-threads.wasm', relaxed: true, threads: true },
  { file: 'nigh-simd-threads.wasm', relaxed: false, threads: true },
  { file: 'nigh-simd.wasm', relaxed: false, threads: false },
].filter((b) => existsSync(path.join(root, 'build', b.file)));

async function sdk(to) {
  const files = ['nigh.js', 'worker.js', ...BUILDS.map((b) => b.file)];
  const options = {
    bundle: true, format: 'esm', target: 'es2022', minify: true, legalComments: 'none', absWorkingDir: web, charset: 'utf8',
    define: { __BUILDS__: JSON.stringify(BUILDS), __FILES__: JSON.stringify(files) },
  };
  const one = (from, name) => bundle({ ...options, entryPoints: [`sdk/src/${from}`], outfile: path.join(to, name) });
  await Promise.all([one('index.ts', 'nigh.js'), one('worker.ts', 'worker.js'), one('sw.ts', 'sw.js')]);
  for (const b of BUILDS) cpSync(path.join(root, 'build', b.file), path.join(to, b.file));
}

async function makeSite() {
  rmSync(site, { recursive: true, force: true });
  mkdirSync(path.join(site, 'sdk'), { recursive: true });
  await sdk(path.join(site, 'sdk'));
  cpSync(path.join(site, 'sdk/sw.js'), path.join(site, 'sw.js'));
  rmSync(path.join(site, 'sdk/sw.js'));
  await buildConsole({ configFile: path.join(web, 'console/vite.config.mjs') });
}

async function makePackage() {
  rmSync(pack, { recursive: true, force: true });
  mkdirSync(pack, { recursive: true });
  await sdk(pack);
  for (const f of ['package.json', 'README.md', 'bin']) cpSync(path.join(web, 'sdk', f), path.join(pack, f), { recursive: true });
  cpSync(path.join(root, 'LICENSE'), path.join(pack, 'LICENSE'));
  mkdirSync(path.join(pack, 'model'));
  const model = path.join(pack, 'model/nigh-stories.gguf');
  cpSync(path.join(root, 'models/nigh-stories.gguf'), model);
  cpSync(path.join(root, 'models/ATTRIBUTION.md'), path.join(pack, 'model/ATTRIBUTION.md'));
  const made = spawnSync(process.execPath, [path.join(web, 'sdk/bin/manifest.mjs'), model], { stdio: ['ignore', 'ignore', 'inherit'] });
  if (made.status !== 0) process.exit(1);
  const tsc = path.join(web, 'node_modules/typescript/bin/tsc');
  const types = spawnSync(process.execPath, [tsc, '-p', 'sdk', '--outDir', path.join(pack, 'types')], { cwd: web, stdio: 'inherit' });
  if (types.status !== 0) process.exit(1);
}

const what = process.argv[2] ?? 'site';
mkdirSync(out, { recursive: true });
if (what === 'site') await makeSite();
else if (what === 'package') await makePackage();
else throw new Error(`unknown word: ${what}`);
writeFileSync(path.join(out, `${what}.stamp`), '');
