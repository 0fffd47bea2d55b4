/* names.c - what a name alone tells: parameters and family of a model, purpose of a data set.
 *
 * Sizes: a table of well-known models whose names carry no size, then the largest
 * "<number><k|m|b|t>" of the name ("8x7b" counts experts that share attention: 83 % of the
 * product), context lengths such as "128k" left out.  Names are only used where there is no
 * config.json. */
#include "coordinator/spec.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct known_size {
    const char *part; /* of the lower-case name */
    double parameters;
} known_size;

/* Longer parts first: the first hit decides. */
static const known_size known_sizes[] = {
    {"distilgpt2", 82e6},
    {"gpt2-medium", 355e6},
    {"gpt2-large", 774e6},
    {"gpt2-xl", 1.558e9},
    {"gpt2", 124e6},
    {"phi-3.5-mini", 3.82e9},
    {"phi-3-mini", 3.82e9},
    {"phi-3-small", 7.39e9},
    {"phi-3-medium", 14e9},
    {"phi-3.5-moe", 41.9e9},
    {"phi-4-mini", 3.84e9},
    {"phi-4", 14.7e9},
    {"phi-1_5", 1.42e9},
    {"phi-1.5", 1.42e9},
    {"phi-1", 1.42e9},
    {"phi-2", 2.78e9},
    {"mistral-nemo", 12.2e9},
    {"mistral-large", 123e9},
    {"mistral-small", 23.6e9},
    {"command-r-plus", 104e9},
    {"command-r", 35e9},
    {"deepseek-v3", 671e9},
    {"deepseek-r1-distill", 0},
    {"deepseek-r1", 671e9},
    {"bert-base", 110e6},
    {"bert-large", 340e6},
    {"t5-small", 60e6},
    {"t5-base", 220e6},
    {"t5-large", 770e6},
    {"vit-base", 86e6},
    {"resnet-18", 11.7e6},
    {"resnet18", 11.7e6},
    {"mobilenetv2", 3.5e6},
    {"clip-vit-base", 151e6},
    {"tiny-arith", 4.2e6},
    {"tinystories-33m", 68.5e6},
};

static void lower(const char *in, char *out, size_t size)
{
    size_t i = 0;
    for (; in[i] && i + 1 < size; i++) out[i] = (char)tolower((unsigned char)in[i]);
    out[i] = 0;
}

/* The last part of a path or hub name. */
static const char *last_part(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash && slash[1] ? slash + 1 : name;
}

static double unit_of(char c)
{
    return c == 'k' ? 1e3 : c == 'm' ? 1e6 : c == 'b' ? 1e9 : c == 't' ? 1e12 : 0;
}

/* "4k", "128k", "1m": lengths of contexts, not sizes of models. */
static int is_context(double x, char unit)
{
    static const double lengths[] = {4, 8, 16, 32, 64, 128, 200, 256, 512};
    if (unit == 'm' && x == 1) return 1;
    for (size_t i = 0; unit == 'k' && i < sizeof lengths / sizeof lengths[0]; i++)
        if (x == lengths[i]) return 1;
    return 0;
}

/* A size at p: writes its parameters and returns the characters read, 0 = no size here. */
static size_t read_size(const char *p, double *parameters)
{
    char *end;
    double x = strtod(p, &end), experts = 0;
    if (end == p || !isdigit((unsigned char)*p) || !isfinite(x)) return 0;
    if (*end == 'x' && isdigit((unsigned char)end[1])) {
        experts = x;
        x = strtod(end + 1, &end);
    }
    double unit = unit_of(*end);
    if (unit == 0 || isalnum((unsigned char)end[1]) || is_context(x, *end)) return 0;
    *parameters = x * unit * (experts > 0 ? 0.83 * experts : 1);
    return (size_t)(end + 1 - p);
}

double spec_name_parameters(const char *model_name)
{
    char name[256];
    double best = 0;
    lower(last_part(model_name), name, sizeof name);
    for (const char *p = name; *p; p++) {
        double parameters;
        int starts = p == name || !(isdigit((unsigned char)p[-1]) || p[-1] == '.');
        size_t n = starts && isdigit((unsigned char)*p) ? read_size(p, &parameters) : 0;
        if (n && parameters > best) best = parameters;
    }
    if (best > 0) return best;
    for (size_t i = 0; i < sizeof known_sizes / sizeof known_sizes[0]; i++)
        if (strstr(name, known_sizes[i].part)) return known_sizes[i].parameters;
    return 0;
}

const char *spec_name_family(const char *model_name)
{
    static const char *const families[][2] = {
        {"qwen3", "qwen3"},
        {"qwen2", "qwen2"},
        {"qwen1.5", "qwen2"},
        {"qwq", "qwen2"},
        {"mixtral", "mixtral"},
        {"mistral", "mistral"},
        {"zephyr", "mistral"},
        {"tinyllama", "llama"},
        {"codellama", "llama"},
        {"vicuna", "llama"},
        {"smollm", "llama"},
        {"stories", "llama"},
        {"tiny-arith", "llama"},
        {"yi-", "llama"},
        {"llama", "llama"},
        {"gemma", "gemma"},
        {"phi-3", "phi3"},
        {"phi-", "phi"},
        {"gpt2", "gpt2"},
        {"gpt-j", "gptj"},
        {"opt-", "opt"},
        {"pythia", "gpt_neox"},
        {"starcoder2", "starcoder2"},
        {"falcon", "falcon"},
        {"bloom", "bloom"},
        {"deepseek-v", "deepseek"},
        {"deepseek-r1-distill-qwen", "qwen2"},
        {"chatglm", "chatglm"},
        {"bert", "bert"},
        {"t5", "t5"},
    };
    char name[256];
    lower(last_part(model_name), name, sizeof name);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strstr(name, families[i][0])) return families[i][1];
    return NULL;
}

/* Whole words or word starts inside a name, so that "arc" does not match "march". */
static int has_word(const char *name, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = strstr(name, word); p; p = strstr(p + 1, word))
        if ((p == name || !isalpha((unsigned char)p[-1])) &&
            (!isalpha((unsigned char)p[n]) || n >= 5))
            return 1;
    return 0;
}

const char *spec_dataset_goal(const char *dataset_name)
{
    static const struct {
        const char *word, *goal;
    } words[] = {
        {"gsm8k", "reasoning"},
        {"gsm", "reasoning"},
        {"math", "reasoning"},
        {"aime", "reasoning"},
        {"arith", "reasoning"},
        {"svamp", "reasoning"},
        {"mmlu", "reasoning"},
        {"arc", "reasoning"},
        {"hellaswag", "reasoning"},
        {"piqa", "reasoning"},
        {"winogrande", "reasoning"},
        {"boolq", "reasoning"},
        {"bbh", "reasoning"},
        {"humaneval", "reasoning"},
        {"mbpp", "reasoning"},
        {"gpqa", "reasoning"},
        {"openbook", "reasoning"},
        {"commonsense", "reasoning"},
        {"truthfulqa", "reasoning"},
        {"endings", "reasoning"},
        {"facts", "reasoning"},
        {"sharegpt", "chat"},
        {"ultrachat", "chat"},
        {"alpaca", "chat"},
        {"oasst", "chat"},
        {"dolly", "chat"},
        {"lmsys", "chat"},
        {"mt_bench", "chat"},
        {"mt-bench", "chat"},
        {"mtbench", "chat"},
        {"chat", "chat"},
        {"conversation", "chat"},
        {"dialog", "chat"},
        {"wikitext", "language"},
        {"ptb", "language"},
        {"c4", "language"},
        {"pile", "language"},
        {"lambada", "language"},
        {"tinystories", "language"},
        {"stories", "language"},
        {"openwebtext", "language"},
        {"redpajama", "language"},
    };
    char name[256];
    lower(last_part(dataset_name), name, sizeof name);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (has_word(name, words[i].word)) return words[i].goal;
    return "unknown";
}

double spec_fp16_bytes(double parameters)
{
    return 2 * 1.15 * parameters;
}
