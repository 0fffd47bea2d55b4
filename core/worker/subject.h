/* subject.h - the model a command or a job works on, opened whole: hardware backend, checkpoint,
 * tokenizer, and the forms of its linears (an artifact's, or a quantized folder's through a format
 * plugin).  Left out: deciding anything. */
#ifndef SQZ_CORE_SUBJECT_H
#define SQZ_CORE_SUBJECT_H
#include "host/host.h"
#include "model/model.h"
#include "registry.h"
#include "tokenizer/tokenizer.h"

/* The hardware backend: best "hardware/1" agent, completed by the reference operations. */
typedef struct backend {
    agent *agent;
    sqz_hardware table;
    device device;
    sqz_device_info info;
} backend;
/* Opens it and gives host its linear algebra.  Close after everything that uses it. */
sqz_status backend_open(const catalogue *, host *, backend *out, sqz_error *err);
void backend_close(backend *);
/* "cpu/avx512_bf16/bf16/t2": backend, instruction set, dtype of products, threads. */
void backend_compute_class(const backend *, int32_t compute, char out[96]);

typedef struct subject_options {
    const catalogue *catalogue;
    host *host;
    const backend *backend;
    registry *registry;   /* for artifacts; NULL when only folders are opened */
    const char *model;    /* folder; anything else is refused by name */
    const char *artifact; /* digest, prefix or tag; NULL = the folder as it is */
    const char *compute;  /* "fp32", "bf16" or "auto" */
    int resident;             /* hold the whole model, where memory_limit lets it */
    int64_t memory_limit;     /* bytes, resident; 0 = this machine's memory */
    int64_t batch_tokens;
} subject_options;

typedef struct subject {
    checkpoint *checkpoint;
    model_config config;
    tokenizer *tokenizer; /* NULL until subject_tokenizer */
    model *model;         /* NULL until subject_model */
    int32_t compute;      /* resolved: SQZ_F32 or SQZ_BF16 */
    subject_options options;
    struct forms *forms; /* where non-dense linears come from, or NULL */
    weight_overlay overlay;
} subject;

/* Checkpoint, configuration and forms; cheap (nothing of the weights is read). */
sqz_status subject_open(const subject_options *, subject **out, sqz_error *err);
void subject_close(subject *);
/* Open on first use. */
sqz_status subject_model(subject *, model **out, sqz_error *err);
sqz_status subject_tokenizer(subject *, tokenizer **out, sqz_error *err);
/* The weight of one linear as it is held (1 form, 0 dense, negative error); see weight_overlay. */
int subject_linear(subject *, const char *module, sqz_weight *out, sqz_error *err);
void subject_linear_done(subject *, const char *module);
/* The dense weight of a linear in the checkpoint; see model_dense. */
sqz_status subject_dense(const subject *, const linear_spec *, sqz_weight *out, void **owned,
                         sqz_error *err);
/* SQZ_F32 / SQZ_BF16 for a --compute word; auto = bf16 where the CPU multiplies it fast and the
 * checkpoint is 16-bit. */
sqz_status subject_compute(const char *word, const backend *, const model_config *, int32_t *out,
                           sqz_error *err);
/* ERR_MODEL unless `model` is an existing folder: names of the hub are resolved before (cli/shared.h). */
sqz_status subject_check_path(const char *model, sqz_error *err);
#endif
