/* assert.h - a broken promise of a caller stops the module (a trap), as abort would a program. */
#ifndef NIGH_WASM_ASSERT_H
#define NIGH_WASM_ASSERT_H

#define assert(condition) ((condition) ? (void)0 : __builtin_trap())
#define static_assert _Static_assert

#endif
