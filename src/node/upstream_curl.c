/* upstream_curl.c - see upstream_curl.h. The library's functions by name, in a table: a mistyped name fails at
 * the first call, and the test of upstream makes one. */
#include "node/upstream_curl.h"

#include <dlfcn.h>
#include <pthread.h>

enum { VERSION_MIN = 0x075500 };    /* 7.85: CURLOPT_PROTOCOLS_STR */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static nigh_upstream_curl loaded;
static const char *missing;         /* a name that the library has not */

typedef struct { const char *name; size_t at; } symbol;

static const symbol symbols[] = {
#define SYMBOL(field) { "curl_" #field, offsetof(nigh_upstream_curl, field) }
    SYMBOL(global_init),  SYMBOL(easy_init),           SYMBOL(easy_cleanup),     SYMBOL(easy_setopt),
    SYMBOL(easy_getinfo), SYMBOL(easy_pause),          SYMBOL(multi_init),       SYMBOL(multi_cleanup),
    SYMBOL(multi_setopt), SYMBOL(multi_add_handle),    SYMBOL(multi_remove_handle), SYMBOL(multi_socket_action),
    SYMBOL(multi_info_read), SYMBOL(getdate),          SYMBOL(version_info),
#undef SYMBOL
};

static void load(void) {
    static const char *const names[] = { "libcurl-gnutls.so.4", "libcurl.so.4" };
    for (size_t i = 0; i < NIGH_COUNT(names) && !loaded.library; i++) loaded.library = dlopen(names[i], RTLD_NOW);
    for (size_t i = 0; loaded.library && i < NIGH_COUNT(symbols); i++) {
        void *f = dlsym(loaded.library, symbols[i].name);
        if (!f) { missing = symbols[i].name; return; }
        memcpy((char *)&loaded + symbols[i].at, &f, sizeof f);
    }
    if (loaded.library && loaded.version_info(CURLVERSION_NOW)->version_num < VERSION_MIN) missing = "version 7.85";
    else if (loaded.library && loaded.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) missing = "its initialisation";
}

nigh_status nigh_upstream_curl_load(nigh_upstream_curl *c, nigh_err *err) {
    pthread_once(&once, load);
    if (!loaded.library)
        return nigh_fail(err, NIGH_ENOSUP, 0,
                         "edge and cloud targets need libcurl, which is not installed here (Debian: apt "
                         "install libcurl3-gnutls)");
    if (missing) return nigh_failf(err, NIGH_ENOSUP, 0, "the libcurl that is installed here lacks %s", missing);
    *c = loaded;
    return NIGH_OK;
}
