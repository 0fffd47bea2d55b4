/* test_spec.c - infer_spec: names, config files, data sets, limits, and where each value came from.
 */
#include "coordinator/spec.h"
#include "io/file.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/sqz-spec-XXXXXX";
static catalogue *plugins;
static const spec_machine machine = {.memory_bytes = 16000000000, .threads = 4};

/* ---- names
 * --------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    double parameters; /* 0 = the name says nothing */
    const char *family;
} models[] = {
    {"meta-llama/Llama-2-7b-hf", 7e9, "llama"},
    {"meta-llama/Meta-Llama-3-8B-Instruct", 8e9, "llama"},
    {"meta-llama/Llama-3.1-405B", 405e9, "llama"},
    {"meta-llama/Llama-3.2-3B", 3e9, "llama"},
    {"meta-llama/Llama-3.2-1B-Instruct", 1e9, "llama"},
    {"TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1.1e9, "llama"},
    {"codellama/CodeLlama-34b-Python-hf", 34e9, "llama"},
    {"lmsys/vicuna-13b-v1.5-16k", 13e9, "llama"},
    {"HuggingFaceTB/SmolLM2-135M", 135e6, "llama"},
    {"karpathy/stories260K", 260e3, "llama"},
    {"stories15M", 15e6, "llama"},
    {"01-ai/Yi-34B-200K", 34e9, "llama"},
    {"mistralai/Mistral-7B-Instruct-v0.3", 7e9, "mistral"},
    {"mistralai/Mixtral-8x7B-v0.1", 0.83 * 56e9, "mixtral"},
    {"mistralai/Mixtral-8x22B-Instruct-v0.1", 0.83 * 176e9, "mixtral"},
    {"mistralai/Mistral-Nemo-Instruct-2407", 12.2e9, "mistral"},
    {"Qwen/Qwen2-0.5B", 0.5e9, "qwen2"},
    {"Qwen/Qwen2.5-7B-Instruct-1M", 7e9, "qwen2"},
    {"Qwen/Qwen2.5-Coder-32B-Instruct", 32e9, "qwen2"},
    {"Qwen/QwQ-32B", 32e9, "qwen2"},
    {"Qwen/Qwen3-30B-A3B", 30e9, "qwen3"},
    {"Qwen/Qwen3-0.6B", 0.6e9, "qwen3"},
    {"google/gemma-2-27b-it", 27e9, "gemma"},
    {"microsoft/Phi-3-mini-128k-instruct", 3.82e9, "phi3"},
    {"microsoft/phi-2", 2.78e9, "phi"},
    {"gpt2", 124e6, "gpt2"},
    {"openai-community/gpt2-xl", 1.558e9, "gpt2"},
    {"EleutherAI/gpt-j-6b", 6e9, "gptj"},
    {"EleutherAI/pythia-1.4b-deduped", 1.4e9, "gpt_neox"},
    {"facebook/opt-125m", 125e6, "opt"},
    {"tiiuae/falcon-40b", 40e9, "falcon"},
    {"bigscience/bloom-560m", 560e6, "bloom"},
    {"deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1.5e9, NULL},
    {"deepseek-ai/DeepSeek-V3", 671e9, "deepseek"},
    {"TheBloke/Llama-2-13B-GPTQ-4bit-128g", 13e9, "llama"},
    {"/data/models/my-finetune-3b", 3e9, NULL},
    {"my-secret-model", 0, NULL},
    {"checkpoint-1200", 0, NULL},
    {"model-v2.5", 0, NULL},
    {"llama", 0, "llama"},
};

START_TEST(models_by_name)
{
    ck_assert_int_ge(sizeof models / sizeof models[0], 30);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        double have = spec_name_parameters(models[i].name);
        ck_assert_msg(fabs(have - models[i].parameters) <= 1e-9 * models[i].parameters,
                      "%s: %g parameters, expected %g", models[i].name, have, models[i].parameters);
        const char *family = spec_name_family(models[i].name);
        if (models[i].family)
            ck_assert_msg(family && !strcmp(family, models[i].family), "%s: family %s",
                          models[i].name, family ? family : "none");
    }
    /* A1: 7b and 8b are 16 to 20 GB at 16 bits, 3b is 6 to 8 */
    ck_assert(spec_fp16_bytes(spec_name_parameters("x-7b")) >= 16e9);
    ck_assert(spec_fp16_bytes(spec_name_parameters("x-8b")) <= 20e9);
    ck_assert(spec_fp16_bytes(spec_name_parameters("x-3b")) >= 6e9);
    ck_assert(spec_fp16_bytes(spec_name_parameters("x-3b")) <= 8e9);
}
END_TEST

static const struct {
    const char *name, *goal;
} datasets[] = {
    {"gsm8k", "reasoning"},
    {"openai/gsm8k", "reasoning"},
    {"gsm8k_test", "reasoning"},
    {"arith_test", "reasoning"},
    {"hendrycks_math", "reasoning"},
    {"mmlu", "reasoning"},
    {"mmlu_pro", "reasoning"},
    {"arc_challenge", "reasoning"},
    {"hellaswag", "reasoning"},
    {"winogrande", "reasoning"},
    {"boolq", "reasoning"},
    {"HumanEval", "reasoning"},
    {"truthfulqa_mc2", "reasoning"},
    {"sharegpt", "chat"},
    {"HuggingFaceH4/ultrachat_200k", "chat"},
    {"tatsu-lab/alpaca", "chat"},
    {"databricks-dolly-15k", "chat"},
    {"mt_bench", "chat"},
    {"lmsys-chat-1m", "chat"},
    {"wikitext-2", "language"},
    {"c4", "language"},
    {"ptb", "language"},
    {"lambada_openai", "language"},
    {"TinyStories", "language"},
    {"march_sales", "unknown"},
    {"my_rows", "unknown"},
    {"test", "unknown"},
};

START_TEST(datasets_by_name)
{
    ck_assert_int_ge(sizeof datasets / sizeof datasets[0], 15);
    for (size_t i = 0; i < sizeof datasets / sizeof datasets[0]; i++)
        ck_assert_msg(!strcmp(spec_dataset_goal(datasets[i].name), datasets[i].goal), "%s: %s",
                      datasets[i].name, spec_dataset_goal(datasets[i].name));
}
END_TEST

/* ---- the whole spec
 * ------------------------------------------------------------------------------ */

static config *settings(const char *model, const char *dataset, const char *extra)
{
    config *c = NULL;
    sqz_error err = {0};
    char *text = path_format("{\"model\":\"%s\",\"dataset\":\"%s\"%s%s}", model, dataset,
                             *extra ? "," : "", extra);
    ck_assert_msg(!config_parse(text, (int64_t)strlen(text), "t.json", NULL, NULL, 0, &c, &err),
                  "%s", err.text);
    free(text);
    return c;
}

static cJSON *infer(const char *model, const char *dataset, const char *extra)
{
    cJSON *spec = NULL;
    sqz_error err = {0};
    config *c = settings(model, dataset, extra);
    ck_assert_msg(!infer_spec(c, plugins, &machine, NULL, &spec, &err), "%s", err.text);
    config_free(c);
    return spec;
}

static const char *origin(const cJSON *spec, const char *key)
{
    return json_str(json_get(spec, key), "origin", "");
}

static const struct {
    const char *folder, *json;
    double parameters;
    double context;
} configs[] = {
    /* old and new spelling of the rotary settings, tied and untied heads, grouped attention */
    {"fake-70b",
     "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":64,"
     "\"intermediate_size\":128,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
     "\"num_key_value_heads\":2,\"vocab_size\":100,\"max_position_embeddings\":256,"
     "\"rope_theta\":10000.0,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\"}",
     /* embed + head 2*6400; per block: q,o 2*4096, k,v 2*2048, mlp 3*8192, norms 128; final 64 */
     12800 + 2 * (8192 + 4096 + 24576 + 128) + 64, 256},
    {"mistral-new",
     "{\"architectures\":[\"MistralForCausalLM\"],\"model_type\":\"mistral\",\"hidden_size\":64,"
     "\"intermediate_size\":128,\"num_hidden_layers\":1,\"num_attention_heads\":4,"
     "\"num_key_value_heads\":4,\"vocab_size\":100,\"max_position_embeddings\":512,"
     "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":10000.0},"
     "\"tie_word_embeddings\":true,\"dtype\":\"float16\",\"sliding_window\":null}",
     6400 + 4 * 4096 + 24576 + 128 + 64, 512},
    {"qwen2-tiny",
     "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"hidden_size\":64,"
     "\"intermediate_size\":128,\"num_hidden_layers\":1,\"num_attention_heads\":4,"
     "\"num_key_value_heads\":2,\"vocab_size\":100,\"max_position_embeddings\":128,"
     "\"rope_theta\":1000000.0,\"tie_word_embeddings\":true,\"torch_dtype\":\"float32\"}",
     6400 + 8192 + 4096 + (64 + 32 + 32) + 24576 + 128 + 64, 128},
    {"qwen3-tiny",
     "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"hidden_size\":64,"
     "\"intermediate_size\":128,\"num_hidden_layers\":1,\"num_attention_heads\":4,\"head_dim\":16,"
     "\"num_key_value_heads\":2,\"vocab_size\":100,\"max_position_embeddings\":128,"
     "\"rope_theta\":1000000.0,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\"}",
     6400 + 8192 + 4096 + 32 + 24576 + 128 + 64, 128},
};

START_TEST(config_beats_the_name)
{
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        char *dir = path_format("%s/%s", root, configs[i].folder);
        char *path = path_format("%s/config.json", dir);
        sqz_error err = {0};
        ck_assert(!dir_make(dir, &err) && !file_printf(path, &err, "%s", configs[i].json));
        cJSON *spec = infer(dir, "gsm8k", "");
        double have = spec_num(spec, "parameters", 0);
        ck_assert_msg(have == configs[i].parameters, "%s: %.0f parameters, expected %.0f",
                      configs[i].folder, have, configs[i].parameters);
        ck_assert_str_eq(origin(spec, "parameters"), "config.json");
        ck_assert_double_eq(spec_num(spec, "context", 0), configs[i].context);
        ck_assert_double_eq(spec_num(spec, "calibration_seq_len", 0), configs[i].context);
        cJSON_Delete(spec);
        free(dir);
        free(path);
    }
}
END_TEST

START_TEST(names_and_defaults)
{
    cJSON *spec = infer("Qwen/Qwen2.5-7B-Instruct", "sharegpt", "");
    ck_assert_double_eq(spec_num(spec, "parameters", 0), 7e9);
    ck_assert_str_eq(origin(spec, "parameters"), "the model's name");
    ck_assert_double_eq(spec_num(spec, "weight_bytes", 0), 14e9);
    ck_assert_str_eq(spec_str(spec, "goal", ""), "chat");
    const cJSON *objectives = spec_value(spec, "objectives");
    ck_assert_int_eq(cJSON_GetArraySize(objectives), 3); /* latency matters to chat */
    ck_assert_str_eq(cJSON_GetArrayItem(objectives, 2)->valuestring, "tpot");
    ck_assert_double_eq(spec_num(spec, "max_accuracy_drop", 0), 0.02);
    ck_assert_str_eq(origin(spec, "max_accuracy_drop"), "default");
    ck_assert_double_eq(spec_num(spec, "budget_trials", 0), 32);
    ck_assert(spec_value(spec, "max_vram") == NULL);
    ck_assert(strstr(origin(spec, "max_vram"), "unset") != NULL);
    ck_assert_double_eq(spec_num(spec, "memory_limit", 0), 14.4e9);
    const cJSON *entry; /* the origin of every value is recorded */
    cJSON_ArrayForEach(entry, spec)
        ck_assert_msg(*json_str(entry, "origin", "") != 0, "%s", entry->string);
    cJSON_Delete(spec);

    spec = infer("my-secret-model", "gsm8k", "\"objectives\":[\"quality\"]");
    ck_assert_double_eq(spec_num(spec, "parameters", 0), 8e9); /* conservative */
    ck_assert(strstr(origin(spec, "parameters"), "unknown") != NULL);
    ck_assert_int_eq(cJSON_GetArraySize(spec_value(spec, "objectives")), 1);
    cJSON_Delete(spec);

    spec = infer("x-7b", "sharegpt",
                 "\n\"constraints\":{\"max_accuracy_drop\":0.5,\"max_vram\":\"6GB\"},"
                 "\"objectives\":[\"bytes\"],\"budget\":\"1h\"");
    ck_assert_double_eq(spec_num(spec, "max_accuracy_drop", 0), 0.5);
    ck_assert(strstr(origin(spec, "max_accuracy_drop"), "t.json:2:") != NULL);
    ck_assert_double_eq(spec_num(spec, "max_vram", 0), 6e9);
    ck_assert_int_eq(cJSON_GetArraySize(spec_value(spec, "objectives")), 1);
    ck_assert(spec_value(spec, "budget_trials") == NULL); /* the wall bounds it */
    cJSON_Delete(spec);
}
END_TEST

START_TEST(rows_beat_the_name)
{
    const char *data = SQZ_SOURCE_DIR "/examples/tiny-arith/data";
    char *text = path_format("%s/test.jsonl", data),
         *words = path_format("%s/arith_test.jsonl", data);
    cJSON *spec = infer("x-7b", text, "");
    ck_assert_str_eq(spec_str(spec, "metric", ""), "perplexity");
    ck_assert_str_eq(spec_str(spec, "goal", ""), "language");
    ck_assert(strstr(origin(spec, "metric"), "rows") != NULL);
    ck_assert(strstr(spec_str(spec, "calibration", ""), "/calib.jsonl") != NULL);
    cJSON_Delete(spec);
    spec = infer("x-7b", words, "");
    ck_assert_str_eq(spec_str(spec, "metric", ""), "exact_match");
    ck_assert(spec_str(spec, "preferred_method", NULL) != NULL);
    cJSON_Delete(spec);
    /* without calibration data only methods that need none are left, and the rest says why */
    char *lonely = path_format("%s/alone.jsonl", root);
    sqz_error err = {0};
    ck_assert(!file_printf(lonely, &err, "{\"question\":\"1+1?\",\"answer\":\"#### 2\"}\n"));
    spec = infer("x-7b", lonely, "");
    ck_assert(spec_value(spec, "calibration") == NULL);
    ck_assert_int_ge(cJSON_GetArraySize(spec_value(spec, "methods")), 1);
    ck_assert_int_ge(cJSON_GetArraySize(spec_value(spec, "methods_left_out")), 1);
    cJSON_Delete(spec);
    free(lonely);
    free(text);
    free(words);
}
END_TEST

START_TEST(bad_models_are_not_guessed_around)
{
    static const struct {
        const char *json, *text;
    } bad[] = {
        {"{", ""},
        {"{\"architectures\":[\"NoSuchForCausalLM\"],\"model_type\":\"nosuch\"}", "nosuch"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *dir = path_format("%s/bad-7b-%zu", root, i),
             *path = path_format("%s/config.json", dir);
        sqz_error err = {0};
        cJSON *spec = NULL;
        ck_assert(!dir_make(dir, &err) && !file_printf(path, &err, "%s", bad[i].json));
        config *c = settings(dir, "gsm8k", "");
        ck_assert_int_ne(infer_spec(c, plugins, &machine, NULL, &spec, &err), SQZ_OK);
        ck_assert_msg(strstr(err.text, bad[i].text) != NULL, "%s", err.text);
        config_free(c);
        free(path);
        free(dir);
    }
}
END_TEST

int main(void)
{
    sqz_error err = {0};
    setenv("SQZ_EXE", SQZ_BUILD_DIR "/bin/sqz", 0);
    if (!mkdtemp(root)) return 1;
    char *cache = path_format("%s/cache", root);
    const char *paths[] = {SQZ_PLUGIN_DIR};
    catalogue_options o = {.paths = paths, .n_paths = 1, .cache_dir = cache};
    if (catalogue_open(&o, &plugins, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    Suite *s = suite_create("spec");
    TCase *t = tcase_create("spec");
    tcase_add_test(t, models_by_name);
    tcase_add_test(t, datasets_by_name);
    tcase_add_test(t, config_beats_the_name);
    tcase_add_test(t, names_and_defaults);
    tcase_add_test(t, rows_beat_the_name);
    tcase_add_test(t, bad_models_are_not_guessed_around);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    catalogue_close(plugins);
    dir_remove(root, &err);
    free(cache);
    return failed != 0;
}
