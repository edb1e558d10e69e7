/* test_jsontestsuite.c - Nicolas Seriot's JSONTestSuite: every y_ file is taken, every n_ file refused. i_ files are
 * left to the implementation; ours is strict: it refuses invalid UTF-8, lone surrogates, a byte order mark, numbers
 * beyond double and nesting over
 * 64. Two choices of ours are stricter than the suite's y_ files, which are therefore named here: keys given twice. */
#include <dirent.h>

#include "base/json.h"
#include "base/os.h"
#include "test.h"

static const char *const refused_by_choice[] = { "y_object_duplicated_key.json",
                                                 "y_object_duplicated_key_and_value.json" };
static const char *const taken_by_choice[] = {  /* the i_ files that we take; all other i_ are refused */
                                               "i_number_double_huge_neg_exp.json", "i_number_real_underflow.json",
                                               "i_number_too_big_neg_int.json", "i_number_too_big_pos_int.json",
                                               "i_number_very_big_negative_int.json"
};

static bool listed(const char *const *list, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) if (strcmp(list[i], name) == 0) return true;
    return false;
}

static nigh_status parse_file(const char *folder, const char *name) {
    char path[2048];
    nigh_buf bytes = NIGH_BUF(1 << 24);
    nigh_json_doc doc;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    nigh_status status = nigh_file_read(&bytes, path, NULL);
    CHECK_MSG(status == NIGH_OK, "%s cannot be read", path);
    if (status == NIGH_OK) status = nigh_json_parse(&doc, nigh_buf_str(&bytes), NULL);
    if (status == NIGH_OK) nigh_json_release(&doc);
    nigh_buf_release(&bytes);
    return status;
}

static void run_folder(const char *part) {
    char folder[900];
    int count[3] = { 0 };
    if (!test_shared()) TEST_SKIP("no ../shared");
    snprintf(folder, sizeof folder, "%s/data/json/JSONTestSuite/%s", test_shared(), part);
    DIR *dir = opendir(folder);
    if (!dir) TEST_SKIP("no JSONTestSuite in ../shared/data/json");
    for (const struct dirent *e; (e = readdir(dir));) {
        const char *name = e->d_name;
        if (!strchr("yni", name[0]) || name[1] != '_') continue;
        bool want = name[0] == 'y' ? !listed(refused_by_choice, NIGH_COUNT(refused_by_choice), name)
                                   : name[0] == 'i' && listed(taken_by_choice, NIGH_COUNT(taken_by_choice), name);
        CHECK_MSG((parse_file(folder, name) == NIGH_OK) == want, "%s should be %s", name, want ? "taken" : "refused");
        count[name[0] == 'y' ? 0 : name[0] == 'n' ? 1 : 2]++;
    }
    closedir(dir);
    printf("  %s: %d y_, %d n_, %d i_\n", part, count[0], count[1], count[2]);
    CHECK(count[0] >= 90 && count[1] >= 180 && count[2] >= 30);
}

static void test_parsing(void) { run_folder("test_parsing"); }

TEST_MAIN(T(test_parsing))
