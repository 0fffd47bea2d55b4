/* spec.h - infer_spec: everything a run needs to know that the user did not say.
 *
 * A pure function of the model (its config.json, else its name), the data sets (their rows, else
 * their names), the configuration and the machine.  The result is an object {key:
 * {"value","origin"}}; the rules are in the comments of spec.c and in docs/config.md. */
#ifndef SQZ_CORE_SPEC_H
#define SQZ_CORE_SPEC_H
#include "config/config.h"
#include "coordinator/sources.h"
#include "host/host.h"
#include "model/model.h"

typedef struct spec_machine { /* what was detected; tests give their own */
    int64_t memory_bytes;     /* available now, under the cgroup's limit */
    int64_t vram_bytes;       /* of an accelerator, 0 = none */
    int threads;
} spec_machine;
void spec_detect(spec_machine *);

/* Keys: parameters, architecture, family, block_parameters, context, dtype, weight_bytes,
 * memory_fp16_bytes, methods, preferred_method, goal, metric, objectives, max_accuracy_drop,
 * max_vram, calibration, calibration_samples, calibration_seq_len, budget_trials, patience,
 * compute, threads, memory_limit. */
/* data: makes the primary data set ready to be opened; NULL: only what sqz reads itself. */
sqz_status infer_spec(const config *, const catalogue *, const spec_machine *, sources *data,
                      cJSON **spec, sqz_error *err);

/* The parts, for tests and `sqz estimate`.  Parameters by name: 0 when the name says nothing. */
double spec_name_parameters(const char *model_name);
/* Family by name ("llama", "qwen2", ...), or NULL. */
const char *spec_name_family(const char *model_name);
/* "reasoning", "chat", "language" or "unknown", by the name of a data set. */
const char *spec_dataset_goal(const char *dataset_name);
/* Bytes in memory to run at 16 bits: two a parameter and 15 % for activations and buffers. */
double spec_fp16_bytes(double parameters);

/* Value of a key: defaults when absent or null. */
double spec_num(const cJSON *spec, const char *key, double fallback);
const char *spec_str(const cJSON *spec, const char *key, const char *fallback);
const cJSON *spec_value(const cJSON *spec, const char *key);
/* Parses <dir>/config.json; SQZ_E_UNSUPPORTED when dir holds none (a bare name). */
sqz_status spec_model_config(const char *dir, model_config *out, sqz_error *err);
#endif
