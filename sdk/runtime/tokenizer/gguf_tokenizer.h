/* gguf_tokenizer.h - the tokenizer inside a GGUF file, as the files of the folder it came from. */
#ifndef SQZ_RUNTIME_GGUF_TOKENIZER_H
#define SQZ_RUNTIME_GGUF_TOKENIZER_H
#include "checkpoint/gguf.h"

/* tokenizer.json, malloc'd.  tokenizer.ggml.model "llama" (SentencePiece BPE with scores) and
 * "gpt2" (byte-level BPE; tokenizer.ggml.pre decides how text is split); others and unknown splits
 * are refused by name. */
sqz_status gguf_tokenizer(const gguf_file *, char **json, sqz_error *err);
/* tokenizer_config.json, malloc'd: the special tokens by name and the chat template. */
sqz_status gguf_tokenizer_config(const gguf_file *, char **json, sqz_error *err);
#endif
