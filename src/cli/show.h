/* show.h - how the program prints text that came from a file or a model, and sizes, for people.
 * What comes from outside may not steer a terminal: control characters, bytes that are no UTF-8, and marks that turn
 * the direction of text or cannot be seen are printed as escapes. */
#ifndef NIGH_SHOW_H
#define NIGH_SHOW_H

#include <stdio.h>

#include "base/base.h"

/* Prints at most letters_max letters, then "..." when there is more; 0: all. Line feeds are escaped too. */
void nigh_show_text(FILE *out, nigh_str text, size_t letters_max);
/* "812 B", "27.9 KB", "4.1 GB" (powers of 1000) into buf, which is returned. */
const char *nigh_show_bytes(char buf[32], uint64_t bytes);
/* "1,234,567" into buf, which is returned. */
const char *nigh_show_count(char buf[32], uint64_t n);

#endif
