/* upstream_curl.h - libcurl, found when it is needed: a node that asks no other place runs without it. */
#ifndef NIGH_UPSTREAM_CURL_H
#define NIGH_UPSTREAM_CURL_H

#include <curl/curl.h>

#include "base/base.h"

typedef struct {
    void *library;
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    void (*easy_cleanup)(CURL *);
    CURLcode (*easy_setopt)(CURL *, CURLoption, ...);
    CURLcode (*easy_getinfo)(CURL *, CURLINFO, ...);
    CURLcode (*easy_pause)(CURL *, int bits);
    CURLM *(*multi_init)(void);
    CURLMcode (*multi_cleanup)(CURLM *);
    CURLMcode (*multi_setopt)(CURLM *, CURLMoption, ...);
    CURLMcode (*multi_add_handle)(CURLM *, CURL *);
    CURLMcode (*multi_remove_handle)(CURLM *, CURL *);
    CURLMcode (*multi_socket_action)(CURLM *, curl_socket_t, int bits, int *running);
    CURLMsg *(*multi_info_read)(CURLM *, int *left);
    time_t (*getdate)(const char *, const time_t *);
    curl_version_info_data *(*version_info)(CURLversion);
} nigh_upstream_curl;

/* Fails: ENOSUP (not installed, or older than 7.85), EIO. The library stays loaded. */
NIGH_CHECK nigh_status nigh_upstream_curl_load(nigh_upstream_curl *c, nigh_err *err);

#endif
