/* test_chat.c - chat templates against texts that transformers and Jinja rendered
 * (tests/golden/chat), where templates are found, and the limits that foreign templates meet. */
#include "chat/chat.h"
#include "jinja/jinja.h"
#include "scratch.h"
#include "tokenizer/pieces.h"
#include <string.h>

/* ---- vectors --------------------------------------------------------------------------------- */

static const char *shared_text(const cJSON *shared, const char *group, const char *name)
{
    const char *text = json_str(json_get(shared, group), name, NULL);
    ck_assert_ptr_nonnull(text);
    return text;
}

/* One line of cases.jsonl; what it shares with others is in shared.json. */
static void check_case(const cJSON *shared, const cJSON *c)
{
    const char *template = json_str(c, "template", ""), *title = json_str(c, "title", "");
    const cJSON *messages = json_get(c, "messages");
    int named = cJSON_IsString(messages);
    char *text = NULL;
    int64_t bytes = 0;
    sqz_error err = {0};
    chat *chat = NULL;
    if (template[0] == '=') template = shared_text(shared, "templates", template + 1);
    chat_options o = {.add_generation_prompt = json_bool(c, "add_generation_prompt", 0),
                      .variables = named ? json_get(c, "variables") : json_get(shared, "variables"),
                      .tools = json_get(c, "tools") ? json_get(shared, "tools") : NULL,
                      .now_s = json_int(shared, "now", 0)};
    cJSON *hello = cJSON_Parse("[{\"role\": \"user\", \"content\": \"hi\"}]");
    sqz_status s = chat_from_text(template, (int64_t)strlen(template),
                                  named ? json_get(shared, "tokens") : NULL, "t", &chat, &err);
    if (!s)
        s = chat_render(
            chat,
            named ? json_get(json_get(shared, "conversations"), messages->valuestring + 1) : hello,
            &o, &text, &bytes, &err);
    const char *want = json_str(c, "text", NULL);
    if (want) {
        ck_assert_msg(s == SQZ_OK, "%s: %s", title, err.text);
        ck_assert_msg(!strcmp(text, want), "%s: got %s, not %s", title, text, want);
        ck_assert_int_eq(bytes, (int64_t)strlen(want));
    } else {
        ck_assert_msg(s != SQZ_OK, "%s: gave %s", title, text);
        ck_assert_msg(!strncmp(err.text, "t:", 2), "%s: %s", title, err.text); /* with the line */
        if (json_bool(c, "refused", 0))
            ck_assert_msg(s == SQZ_E_UNSUPPORTED, "%s: %s", title, err.text);
    }
    free(text);
    chat_free(chat);
    cJSON_Delete(hello);
}

START_TEST(vectors)
{
    json_doc *shared, *line;
    char *data;
    int64_t bytes, n = 0;
    ck_assert_int_eq(json_read(SQZ_SOURCE_DIR "/tests/golden/chat/shared.json", 1 << 20,
                               JSON_NUMBER_TEXT, &shared, NULL),
                     SQZ_OK);
    ck_assert_int_eq(
        file_read(SQZ_SOURCE_DIR "/tests/golden/chat/cases.jsonl", 1 << 22, &data, &bytes, NULL),
        SQZ_OK);
    for (char *at = data, *end; (end = strchr(at, '\n')); at = end + 1, n++) {
        ck_assert_int_eq(json_parse(at, end - at, JSON_NUMBER_TEXT, "case", &line, NULL), SQZ_OK);
        check_case(json_root(shared), json_root(line));
        json_free(line);
    }
    ck_assert_int_gt(n, 700);
    json_free(shared);
    free(data);
}
END_TEST

/* ---- where templates are found --------------------------------------------------------------- */

static void put(const char *name, const char *text)
{
    char *path = path_format("%s/%s", scratch, name);
    ck_assert_int_eq(file_write(path, text, (int64_t)strlen(text), NULL), SQZ_OK);
    free(path);
}

/* What the folder's templates make of one message, or the error. */
static char *render(const chat_options *o, sqz_status *status)
{
    chat *c = NULL;
    char *text = NULL;
    int64_t bytes;
    sqz_error err = {0};
    cJSON *m = cJSON_Parse("[{\"role\": \"user\", \"content\": \"hi\", \"name\": null}]");
    *status = chat_open(scratch, &c, &err);
    if (!*status) *status = chat_render(c, m, o, &text, &bytes, &err);
    chat_free(c);
    cJSON_Delete(m);
    return text ? text : path_format("%s", err.text);
}

static void expect(const chat_options *o, const char *want)
{
    sqz_status s;
    char *text = render(o, &s);
    ck_assert_msg(s == SQZ_OK && !strcmp(text, want), "got %s, not %s", text, want);
    free(text);
}

START_TEST(places)
{
    sqz_status s;
    cJSON *tools = cJSON_Parse("[{\"a\": 1}]");
    char *text = render(NULL, &s);
    ck_assert_int_eq(s, SQZ_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(text, "no chat template"));
    free(text);
    put("chat_template.json", "{\"chat_template\": \"json {{ messages[0].name is defined }}\"}");
    expect(NULL, "json False");
    put("tokenizer_config.json", "{\"bos_token\": {\"content\": \"<b>\"}, \"chat_template\": "
                                 "\"{{ bos_token }}{{ eos_token is defined }}\"}");
    expect(NULL, "<b>False");
    put("special_tokens_map.json", "{\"bos_token\": \"<other>\", \"eos_token\": \"<e>\"}");
    expect(NULL, "<b>True");
    put("tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"default\", \"template\": \"plain\"}, {\"name\": "
        "\"tool_use\", \"template\": \"{{ tools[0].a }}\"}, {\"name\": \"rag\", \"template\": "
        "\"rag\"}]}");
    expect(NULL, "plain");
    expect(&(chat_options){.tools = tools}, "1");
    expect(&(chat_options){.name = "rag"}, "rag");
    text = render(&(chat_options){.name = "none"}, &s);
    ck_assert_ptr_nonnull(strstr(text, "default, tool_use, rag"));
    free(text);
    put("chat_template.jinja", "file {{ messages[0].content }}\n");
    expect(NULL, "file hi");
    char *folder = path_format("%s/additional_chat_templates", scratch);
    ck_assert_int_eq(dir_make(folder, NULL), SQZ_OK);
    put("additional_chat_templates/short.jinja", "s");
    expect(&(chat_options){.name = "short"}, "s");
    free(folder);
    cJSON_Delete(tools);
}
END_TEST

/* ---- limits ---------------------------------------------------------------------------------- */

static sqz_status try(const char *template, const jinja_limits *limits, sqz_error *err)
{
    jinja *t = NULL;
    char *text = NULL;
    int64_t bytes;
    sqz_status s = jinja_compile(template, (int64_t)strlen(template), "t", &t, err);
    if (!s) s = jinja_render(t, NULL, limits, &text, &bytes, err);
    jinja_free(t);
    free(text);
    return s;
}

static char *repeat(const char *a, int n, const char *middle, const char *b)
{
    text_buffer out = {0};
    for (int i = 0; i < n; i++) text_add(&out, a, (int64_t)strlen(a));
    text_add(&out, middle, (int64_t)strlen(middle));
    for (int i = 0; i < n; i++) text_add(&out, b, (int64_t)strlen(b));
    text_add(&out, "", 1);
    return out.at;
}

START_TEST(limits)
{
    static const char *const hungry[] = {
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}"
        "{% endfor %}",
        "{{ range(100001) }}",
        "{{ 'x' * 999999999999 }}",
        "{{ [1] * 99999999999 }}",
        "{{ 'x'.center(99999999999) }}",
        "{% set ns = namespace(l=[]) %}{% for a in range(200) %}{% set ns.l = [ns.l] %}{% endfor %}"
        "{{ ns.l }}",
    };
    sqz_error err;
    for (size_t i = 0; i < sizeof hungry / sizeof *hungry; i++) {
        ck_assert_msg(try(hungry[i], NULL, &err) != SQZ_OK, "%s", hungry[i]);
        ck_assert_msg(!strncmp(err.text, "t:1: ", 5), "%s", err.text);
    }
    char *deep[] = {repeat("(", 5000, "1", ")"),   repeat("[", 180, "1", "]"),
                    repeat("not ", 5000, "1", ""), repeat("-", 5000, "1", ""),
                    repeat("1 + ", 5000, "1", ""), repeat("x.", 5000, "x", "")};
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        char *text = path_format("{{ %s }}", deep[i]);
        ck_assert_int_ne(try(text, NULL, &err), SQZ_OK);
        free(text);
        free(deep[i]);
    }
    char *blocks = repeat("{% if 1 %}", 5000, "", "{% endif %}");
    ck_assert_int_ne(try(blocks, NULL, &err), SQZ_OK);
    free(blocks);
    ck_assert_int_eq(try("{{ 'x' * 100 }}", &(jinja_limits){.output_bytes = 99}, &err), ERR_MODEL);
    ck_assert_int_eq(try("{{ 'x' * 99 }}", &(jinja_limits){.output_bytes = 99}, &err), SQZ_OK);
    ck_assert_int_eq(try("{% for i in range(9) %}{% endfor %}", &(jinja_limits){.steps = 5}, &err),
                     ERR_MODEL);
    ck_assert_int_eq(try("{{ [1] * 9999 }}", &(jinja_limits){.memory_bytes = 1000}, &err),
                     SQZ_E_NOMEM);
}
END_TEST

START_TEST(errors)
{
    static const struct {
        const char *template, *words;
        sqz_status status;
    } cases[] = {
        {"a\n\n{{ x | nothing }}", "t:3: the filter \"nothing\" is not supported",
         SQZ_E_UNSUPPORTED},
        {"\n{% include 'x' %}", "t:2: the tag \"include\" is not supported", SQZ_E_UNSUPPORTED},
        {"{% for x in y recursive %}{% endfor %}", "t:1: recursive loops", SQZ_E_UNSUPPORTED},
        {"{{ raise_exception('roles must alternate') }}", "roles must alternate", ERR_MODEL},
        {"\n\n\n{{ messages[0]['role'] }}", "t:4: \"messages\" is undefined", ERR_MODEL},
        {"x\n{% if 1 %}\n", "t:2: the block that begins here has no endif", ERR_MODEL},
        {"{{ 'a' + 1 }}", "a string + an integer has no meaning", ERR_MODEL},
        {"\xff", "is not UTF-8", ERR_MODEL},
    };
    sqz_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(try(cases[i].template, NULL, &err), cases[i].status);
        ck_assert_msg(strstr(err.text, cases[i].words) != NULL, "%s", err.text);
    }
}
END_TEST

int main(void)
{
    setenv("TZ", "UTC", 1); /* strftime_now shows local time */
    Suite *suite = suite_create("chat");
    TCase *t = tcase_create("templates");
    tcase_add_checked_fixture(t, scratch_make, scratch_remove);
    tcase_add_test(t, vectors);
    tcase_add_test(t, places);
    tcase_add_test(t, limits);
    tcase_add_test(t, errors);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
