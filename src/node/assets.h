/* assets.h - the console, the SDK and the engine for the browser, made part of the program by tools/embed.c when it is
 * built. */
#ifndef NIGH_ASSETS_H
#define NIGH_ASSETS_H

#include "base/base.h"

typedef struct { const char *path, *type; const unsigned char *bytes; size_t count; } nigh_asset;
extern const nigh_asset nigh_assets[];
extern const size_t nigh_asset_count;

#endif
