/* chat_stream.c - renders chat templates for chat.py: a JSON object a line in, one a line out.
 *
 * In: {"template", "tokens", "messages", "tools", "documents", "variables",
 * "add_generation_prompt", "now"}; out: {"text"} or {"error", "code"}. */
#include "chat/chat.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sqz_status render(const cJSON *in, char **text, sqz_error *err)
{
    const char *template = json_str(in, "template", ""), *folder = json_str(in, "folder", NULL);
    chat *c = NULL;
    int64_t bytes;
    chat_options o = {.tools = json_get(in, "tools"),
                      .documents = json_get(in, "documents"),
                      .variables = json_get(in, "variables"),
                      .add_generation_prompt = json_bool(in, "add_generation_prompt", 0),
                      .now_s = json_int(in, "now", 0)};
    if (cJSON_IsNull(o.tools)) o.tools = NULL;
    if (cJSON_IsNull(o.documents)) o.documents = NULL;
    sqz_status s = folder ? chat_open(folder, &c, err)
                          : chat_from_text(template, (int64_t)strlen(template),
                                           json_get(in, "tokens"), "template", &c, err);
    if (!s) s = chat_render(c, json_get(in, "messages"), &o, text, &bytes, err);
    chat_free(c);
    return s;
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    while ((n = getline(&line, &room, stdin)) > 0) {
        json_doc *doc = NULL;
        sqz_error err = {0};
        char *text = NULL;
        sqz_status s = json_parse(line, n, JSON_NUMBER_TEXT, "line", &doc, &err);
        if (!s) s = render(json_root(doc), &text, &err);
        cJSON *out = cJSON_CreateObject();
        if (s) {
            cJSON_AddStringToObject(out, "error", err.text);
            cJSON_AddStringToObject(out, "code", err_name(s));
        } else {
            cJSON_AddStringToObject(out, "text", text);
        }
        char *shown = json_text(out, 0);
        puts(shown);
        fflush(stdout);
        free(shown);
        free(text);
        cJSON_Delete(out);
        if (doc) json_free(doc);
    }
    free(line);
    return 0;
}
