/* cli_policy.h - what `check`, `plan` and `explain` share: reading a policy file, the facts of this device with the
 * models that are here, names for lists of targets. */
#ifndef NIGH_CLI_POLICY_H
#define NIGH_CLI_POLICY_H

#include "place/check.h"
#include "place/decide.h"

/* Reads the policy at path ("-": standard input), plain or signed; whose signature it is does not count here. Fails as
 * nigh_envelope_load, with line and column in the sentence. */
NIGH_CHECK nigh_status nigh_cli_policy_open(nigh_policy **out, const char *path, nigh_err *err);
/* The index of a feature, class or region by name. Fails: ENOENT naming those there are. */
NIGH_CHECK nigh_status nigh_cli_find_feature(const nigh_policy *p, const char *name, uint32_t *out, nigh_err *err);
NIGH_CHECK nigh_status nigh_cli_find_class(const nigh_policy *p, const char *name, uint32_t *out, nigh_err *err);

typedef struct { bool offline, metered; const char *tenant; } nigh_cli_scene;
/* Measures this device. A device target counts as here when its model is found and has the hash that the policy names
 * (which reads the whole file). */
void nigh_cli_facts(const nigh_policy *p, nigh_cli_scene scene, nigh_place_facts *facts);

/* "tiny, mid" of a mask; "-" when it is empty. */
void nigh_cli_target_names(const nigh_policy *p, uint64_t mask, char *out, size_t cap);
/* "class, region" of NIGH_WHY_* bits. */
void nigh_cli_why_names(unsigned why, char *out, size_t cap);

#endif
