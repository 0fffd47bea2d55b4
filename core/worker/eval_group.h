/* eval_group.h - a group of tasks evaluated as one: each member, then figures over their items. */
#ifndef SQZ_CORE_WORKER_EVAL_GROUP_H
#define SQZ_CORE_WORKER_EVAL_GROUP_H
#include "task/task.h"
#include <cjson/cJSON.h>

/* The group that the "dataset" of an evaluation names ("mmlu=FOLDER"); 0: it names no group. */
int eval_group_find(const cJSON *spec, task_set *out);
/* The spec of member k: its own data set and name. */
cJSON *eval_group_member(const task_set *, const cJSON *spec, int k);
/* Adds the groups' figures to results, from those of their members: means weighted by the numbers
 * of items, and the pooled standard error, as lm-evaluation-harness makes them. */
void eval_group_add(const task_set *, cJSON *results);
#endif
