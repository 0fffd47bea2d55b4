/* evaluation.h - sqz.task/1: what the task behind the rows says about answers. */
#ifndef SQZ_CORE_HOST_EVALUATION_H
#define SQZ_CORE_HOST_EVALUATION_H
#include <sqz/eval.h>

const sqz_task *evaluation_table(void);
#endif
