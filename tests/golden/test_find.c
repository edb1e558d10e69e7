/* Personal data with a form, on texts that others annotated (../shared/data/pii): recall and precision of each kind. */
#include "base/json.h"
#include "base/os.h"
#include "place/find.h"
#include "test.h"

typedef struct { const char *entity; nigh_find_kind kind; double recall, precision; } kind_row;
static const kind_row rows[] = { { "EMAIL_ADDRESS", NIGH_FIND_EMAIL, 0.99, 0.98 },
                                 { "DOMAIN_NAME", NIGH_FIND_URL, 0.99, 0.98 },
                                 { "IP_ADDRESS", NIGH_FIND_IP, 0.99, 0.98 },
                                 { "CREDIT_CARD", NIGH_FIND_CARD, 0.99, 0.98 },
                                 { "IBAN_CODE", NIGH_FIND_IBAN, 0.99, 0.98 },
                                 { "US_SSN", NIGH_FIND_SSN, 0.99, 0.98 },
                                 { "PHONE_NUMBER", NIGH_FIND_PHONE, 0.99, 0.95 } };

typedef struct { size_t spans, caught, right, wrong; } score;
static score scores[NIGH_COUNT(rows)];

/* Byte offset of each character: the annotations count characters. */
static size_t byte_of(nigh_str text, size_t character) {
    size_t i = 0;
    for (; i < text.len; i++) {
        if (((unsigned char)text.ptr[i] & 0xc0) == 0x80) continue;
        if (character-- == 0) break;
    }
    return i;
}

typedef struct { nigh_str type; size_t begin, end; } span;

static void score_text(nigh_str text, const nigh_json *list, bool tell) {
    span spans[64];
    nigh_found finds[256];
    size_t span_count = 0, find_count = 0, from = 0;
    for (const nigh_json *v = nigh_json_first(list); v && span_count < 64; v = v->next)
        spans[span_count++] = (span){ nigh_json_get(v, NIGH_STR("entity_type"))->text,
                                      byte_of(text, (size_t)nigh_json_get(v, NIGH_STR("start_position"))->integer),
                                      byte_of(text, (size_t)nigh_json_get(v, NIGH_STR("end_position"))->integer) };
    while (find_count < 256 && nigh_find_next(text, &from, ~0u, &finds[find_count])) find_count++;
    for (size_t k = 0; k < NIGH_COUNT(rows); k++) {
        for (size_t i = 0; i < span_count; i++) {
            bool hit = false;
            if (!nigh_str_eq(spans[i].type, nigh_str_of(rows[k].entity))) continue;
            for (size_t n = 0; n < find_count; n++)
                hit = hit || (finds[n].begin <= spans[i].begin && finds[n].end >= spans[i].end);
            scores[k].spans++;
            scores[k].caught += hit;
            if (!hit && tell)
                printf("  missed %s: %.*s\n", rows[k].entity, (int)(spans[i].end - spans[i].begin),
                       text.ptr + spans[i].begin);
        }
        for (size_t n = 0; n < find_count; n++) {
            bool right = false;
            if (finds[n].kind != rows[k].kind) continue;
            for (size_t i = 0; i < span_count; i++)
                right = right || (nigh_str_eq(spans[i].type, nigh_str_of(rows[k].entity))
                                  && finds[n].begin < spans[i].end && finds[n].end > spans[i].begin);
            scores[k].right += right;
            scores[k].wrong += !right;
            if (!right && tell) {
                size_t low = finds[n].begin > 30 ? finds[n].begin - 30 : 0;
                printf("  wrong %s: %.*s (%.*s)\n", rows[k].entity, (int)(finds[n].end - finds[n].begin),
                       text.ptr + finds[n].begin, (int)(finds[n].end - low), text.ptr + low);
            }
        }
    }
}

static void score_file(const char *name) {
    char path[512];
    nigh_buf text = NIGH_BUF(64 << 20);
    nigh_json_doc doc;
    snprintf(path, sizeof path, "%s/data/pii/%s", test_shared(), name);
    CHECK(nigh_file_read(&text, path, NULL) == NIGH_OK);
    if (!CHECK(nigh_json_parse(&doc, nigh_buf_str(&text), NULL) == NIGH_OK)) return;
    for (const nigh_json *v = doc.root->first; v; v = v->next)
        score_text(nigh_json_get(v, NIGH_STR("full_text"))->text, nigh_json_get(v, NIGH_STR("spans")),
                   getenv("NIGH_MISSES") != NULL);
    nigh_json_release(&doc);
    nigh_buf_release(&text);
}

static void test_annotated_texts(void) {
    static const char *const files[] = { "data/synth_dataset_v2.json", "./tests/data/generated_large.json" };
    if (!test_shared()) TEST_SKIP("no reference data beside the project");
    for (size_t f = 0; f < NIGH_COUNT(files); f++) {
        memset(scores, 0, sizeof scores);
        score_file(files[f]);
        for (size_t k = 0; k < NIGH_COUNT(rows); k++) {
            const score *s = &scores[k];
            double recall = s->spans ? (double)s->caught / (double)s->spans : 1,
                   precision = s->right + s->wrong ? (double)s->right / (double)(s->right + s->wrong) : 1;
            printf("  %-32s %-14s %4zu spans  recall %.3f  precision %.3f\n", files[f], rows[k].entity, s->spans,
                   recall, precision);
            CHECK_MSG(recall >= rows[k].recall && precision >= rows[k].precision, "%s: NIGH_MISSES=1 lists them",
                      rows[k].entity);
        }
    }
}

TEST_MAIN(T(test_annotated_texts))
