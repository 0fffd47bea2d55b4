/* load.h - what the readers of tokenizer files share: each fills one part of a tokenizer. */
#ifndef SQZ_RUNTIME_TOKENIZER_LOAD_H
#define SQZ_RUNTIME_TOKENIZER_LOAD_H
#include "json/json.h"
#include "tokenizer/parts.h"

typedef struct loader {
    tokenizer *t;
    const char *dir;
    const char *file; /* the one that is being read, for messages */
    json_doc *config; /* tokenizer_config.json, or NULL */
    json_doc *map;    /* special_tokens_map.json, or NULL */
    sqz_error *err;
} loader;

sqz_status load_no_memory(const loader *);

/* load_model.c */
sqz_status load_model(const loader *, const cJSON *model);
/* {piece: id} into an empty vocabulary. */
sqz_status load_vocab(const loader *, const cJSON *vocab);
/* "a b"; line: for messages. */
sqz_status load_merge_text(const loader *, const char *text, int64_t n, int64_t line);

/* load_added.c */
int load_has_added(const tokenizer *, const char *content);
/* flags: its entry, or NULL.  The vocabulary's id wins where the content is a piece already. */
sqz_status load_added(const loader *, const char *content, int64_t id, const cJSON *flags,
                      int special);
sqz_status load_added_list(const loader *, const cJSON *list);
/* After everything else: builds what the search for them needs. */
sqz_status load_index_added(const loader *);

/* load.c: "normalizer", "pre_tokenizer" and "decoder" objects, each may be NULL. */
sqz_status load_stages(const loader *, const cJSON *normalize, const cJSON *split,
                       const cJSON *decode);

/* sentencepiece.c: dir's tokenizer.model. */
sqz_status load_sentencepiece(loader *, const char *path, const char *class);
#endif
