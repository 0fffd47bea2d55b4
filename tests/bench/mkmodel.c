/* mkmodel.c - random-weight Llama checkpoint of any shape (safetensors), for timing and for the
 * memory bounds.
 *
 *     mkmodel OUT HIDDEN LAYERS FFN HEADS KV_HEADS VOCAB TOKENIZER_DIR [bf16|fp32]
 *
 * Weights are normal with standard deviation 0.02, seeded: the same arguments give the same bytes.
 * fp32 holds the values of bf16 in twice the room.
 */
#include "checkpoint/checkpoint.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252ull;

static double uniform(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return ((double)(state >> 11) + 0.5) / 9007199254740992.0;
}

static sqz_error err;

static void check(sqz_status st)
{
    if (!st) return;
    fprintf(stderr, "mkmodel: %s\n", err.text);
    exit(1);
}

typedef struct tensor {
    char name[96];
    int64_t rows, cols; /* cols 0: a vector of ones */
} tensor;

static int64_t layout(tensor *t, int64_t h, int64_t layers, int64_t f, int64_t q, int64_t kv,
                      int64_t v)
{
    int64_t n = 0;
#define ADD(r, c, ...)                                                                             \
    (snprintf(t[n].name, sizeof t[n].name, __VA_ARGS__), t[n].rows = (r), t[n].cols = (c), n++)
    ADD(v, h, "model.embed_tokens.weight");
    for (int l = 0; l < (int)layers; l++) {
        ADD(h, 0, "model.layers.%d.input_layernorm.weight", l);
        ADD(h, 0, "model.layers.%d.post_attention_layernorm.weight", l);
        ADD(q, h, "model.layers.%d.self_attn.q_proj.weight", l);
        ADD(kv, h, "model.layers.%d.self_attn.k_proj.weight", l);
        ADD(kv, h, "model.layers.%d.self_attn.v_proj.weight", l);
        ADD(h, q, "model.layers.%d.self_attn.o_proj.weight", l);
        ADD(f, h, "model.layers.%d.mlp.gate_proj.weight", l);
        ADD(f, h, "model.layers.%d.mlp.up_proj.weight", l);
        ADD(h, f, "model.layers.%d.mlp.down_proj.weight", l);
    }
    ADD(h, 0, "model.norm.weight");
    ADD(v, h, "lm_head.weight");
#undef ADD
    return n;
}

static void write_tensor(st_writer *w, const tensor *t, int32_t dtype)
{
    int64_t n = t->rows * (t->cols ? t->cols : 1);
    uint16_t *data = malloc((size_t)n * sizeof *data);
    float *wide = malloc((size_t)n * sizeof *wide);
    if (!data || !wide) abort();
    for (int64_t i = 0; i < n; i++)
        data[i] = f32_to_bf16(
            t->cols ? (float)(0.02 * sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()))
                    : 1.0f);
    if (dtype == SQZ_F32) {
        to_f32(SQZ_BF16, data, n, wide);
        check(st_writer_write(w, t->name, wide, n * 4, &err));
    } else {
        check(st_writer_write(w, t->name, data, n * 2, &err));
    }
    free(data);
    free(wide);
}

static void copy(const char *from, const char *to, const char *name)
{
    char *src = path_format("%s/%s", from, name), *dst = path_format("%s/%s", to, name), *data;
    int64_t bytes;
    check(file_read(src, 64 << 20, &data, &bytes, &err));
    check(file_write(dst, data, bytes, &err));
    free(data), free(src), free(dst);
}

int main(int argc, char **argv)
{
    int32_t dtype = argc == 10 && !strcmp(argv[9], "fp32") ? SQZ_F32 : SQZ_BF16;
    if (argc != 9 && !(argc == 10 && (dtype == SQZ_F32 || !strcmp(argv[9], "bf16")))) {
        fprintf(stderr, "usage: mkmodel OUT HIDDEN LAYERS FFN HEADS KV_HEADS VOCAB TOKENIZER_DIR "
                        "[bf16|fp32]\n");
        return 2;
    }
    long long h = atoll(argv[2]), layers = atoll(argv[3]), f = atoll(argv[4]),
              heads = atoll(argv[5]), kv = atoll(argv[6]), v = atoll(argv[7]);
    long long d = h / heads;
    check(dir_make(argv[1], &err));
    tensor *t = calloc((size_t)(layers * 9 + 8), sizeof *t);
    if (!t) abort();
    int64_t n = layout(t, h, layers, f, heads * d, kv * d, v), parameters = 0;
    char *path = path_format("%s/model.safetensors", argv[1]);
    st_writer *w;
    check(st_writer_new(path, &w, &err));
    for (int64_t i = 0; i < n; i++) {
        int64_t shape[2] = {t[i].rows, t[i].cols};
        check(st_writer_declare(w, t[i].name, dtype, t[i].cols ? 2 : 1, shape, &err));
        parameters += t[i].rows * (t[i].cols ? t[i].cols : 1);
    }
    for (int64_t i = 0; i < n; i++) write_tensor(w, &t[i], dtype);
    check(st_writer_finish(w, &err));
    free(path);
    path = path_format("%s/config.json", argv[1]);
    check(file_printf(path, &err,
                      "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
                      "\"vocab_size\": %lld, \"hidden_size\": %lld, "
                      "\"intermediate_size\": %lld, \"num_hidden_layers\": %lld, "
                      "\"num_attention_heads\": %lld, \"num_key_value_heads\": %lld, "
                      "\"head_dim\": %lld, \"max_position_embeddings\": 2048, \"rms_norm_eps\": "
                      "1e-06, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", "
                      "\"tie_word_embeddings\": false, \"attention_bias\": false, \"mlp_bias\": "
                      "false, \"bos_token_id\": 0, \"eos_token_id\": 1, "
                      "\"torch_dtype\": \"%s\"}\n",
                      v, h, f, layers, heads, kv, d, dtype == SQZ_F32 ? "float32" : "bfloat16"));
    free(path);
    copy(argv[8], argv[1], "tokenizer.json");
    copy(argv[8], argv[1], "tokenizer_config.json");
    printf("%.1f M parameters\n", (double)parameters / 1e6);
    free(t);
    return 0;
}
