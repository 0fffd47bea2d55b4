/* readme.c - README.md of an exported folder: how to load it, only for the runtimes it loads in.
 *
 * What loads where is a fact of the layout: transformers (through optimum and gptqmodel) takes 2,
 * 3, 4 and 8 bits, symmetric or not; vLLM's GPTQ path takes symmetric 4 and 8 bits with groups of
 * 32, 64, 128 or a whole row.  Two layouts need other readers, all checked with the versions named:
 * transformers 5 (5.23) keeps the experts of a layer in one parameter and replaces only modules, so
 * routed experts load in transformers 4; its gpt2 stops on quantized Conv1D modules.  gptqmodel's
 * own loader (7.7) takes both where the grid is symmetric, and experts where it knows their names.
 */
#include "gptq_file.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Text that grows; `failed` once memory runs out. */
typedef struct page {
    char *text;
    size_t bytes;
    int failed;
} page;

__attribute__((format(printf, 2, 3))) static void add(page *p, const char *fmt, ...)
{
    char part[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(part, sizeof part, fmt, ap);
    va_end(ap);
    char *grown = p->failed ? NULL : realloc(p->text, p->bytes + (size_t)n + 1);
    if (!grown || n < 0 || n >= (int)sizeof part) {
        p->failed = 1;
        return;
    }
    p->text = grown;
    for (int i = 0; i <= n; i++) p->text[p->bytes + (size_t)i] = part[i];
    p->bytes += (size_t)n;
}

static int loads_in_vllm(int bits, int64_t group_size, int symmetric, int subset)
{
    int group_ok = group_size == -1 || group_size == 32 || group_size == 64 || group_size == 128;
    return symmetric && (bits == 4 || bits == 8) && group_ok && !subset;
}

static void add_gptqmodel(page *p, const char *when)
{
    add(p,
        "gptqmodel (%s):\n\n```python\nfrom gptqmodel import GPTQModel\n"
        "model = GPTQModel.load(\"PATH\")\n```\n\n",
        when);
}

static void add_transformers(page *p, const char *packages, const char *kernel)
{
    add(p,
        "transformers%s:\n\n"
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer%s\n"
        "model = AutoModelForCausalLM.from_pretrained(\"PATH\", device_map=\"auto\"%s)\n"
        "tokenizer = AutoTokenizer.from_pretrained(\"PATH\")\n```\n\n",
        packages, kernel[0] ? ", GPTQConfig" : "", kernel);
}

/* On a CPU gptqmodel 5.6 picks a fused kernel that takes every grid for a symmetric one. */
static void add_experts(page *p, int bits, int kind, int symmetric)
{
    char kernel[96] = "";
    if (!symmetric)
        snprintf(kernel, sizeof kernel,
                 ",\n    quantization_config=GPTQConfig(bits=%d, backend=\"torch\")", bits);
    add_transformers(p,
                     " 4 (checked with `transformers==4.57.6`, `optimum==2.1.0` and "
                     "`gptqmodel==5.6.12`)",
                     kernel);
    if (kind & GPTQ_EXPERTS_IN_MLP && symmetric)
        add_gptqmodel(p, "checked with 7.7, where it brings transformers 5");
    if (kind & GPTQ_KEYS_OF_5)
        add(p,
            "Here config.json has the keys of transformers 5, which 4 does not read: name them as "
            "4 does before (`rope_theta` out of `rope_parameters`, `num_experts` for "
            "`num_local_experts` of qwen3_moe).\n\n");
    add(p, "Not for transformers 5 itself: it leaves the quantized experts out and fills them with "
           "random numbers, with no more than a warning.\n\n");
}

static void add_loaders(page *p, int bits, int kind, int symmetric)
{
    if (kind & GPTQ_EXPERTS)
        add_experts(p, bits, kind, symmetric);
    else if (kind & GPTQ_CONV1D && symmetric)
        add_gptqmodel(p, "transformers 5 stops on quantized Conv1D modules");
    else if (kind & GPTQ_CONV1D)
        add(p,
            "Not for transformers 5, which stops on quantized Conv1D modules, nor for gptqmodel, "
            "whose own loader takes asymmetric grids only from itself. A symmetric grid loads in "
            "gptqmodel.\n\n");
    else
        add_transformers(p, " (packages `optimum` and `gptqmodel`)", "");
}

char *gptq_readme(int bits, int64_t group_size, int symmetric, int subset, int kind)
{
    page p = {NULL, 0, 0};
    char group[32];
    snprintf(group, sizeof group, "%lld", (long long)group_size);
    add(&p, "# GPTQ checkpoint, %d bit\n\n", bits);
    add(&p, "Made by sqz: %d-bit codes, %s, %s%s; layout GPTQ v1 (`quantize_config.json`).\n", bits,
        symmetric ? "symmetric" : "asymmetric",
        group_size == -1 ? "one scale a row" : "group size ", group_size == -1 ? "" : group);
    add(&p, "Tensors that are not quantized are the source checkpoint's, bit for bit; "
            "`validation_report.json` holds the load-back check.\n\n");
    add(&p, "## Load it\n\n");
    add_loaders(&p, bits, kind, symmetric);
    if (loads_in_vllm(bits, group_size, symmetric, subset))
        add(&p, "vLLM:\n\n```sh\nvllm serve PATH\n```\n\n");
    add(&p, "sqz itself:\n\n```sh\nsqz generate PATH --prompt \"Question:\"\nsqz eval PATH "
            "--dataset text.jsonl\n```\n");
    if (!loads_in_vllm(bits, group_size, symmetric, 0))
        add(&p, "\nNot for vLLM: its GPTQ path reads symmetric 4 and 8 bit only.\n");
    if (!p.failed) return p.text;
    free(p.text);
    return NULL;
}
