/* main.c - `sqz worker DIR`: the child's side with the jobs that this program knows. */
#include "worker/serve.h"

int worker_main(const char *dir)
{
    return worker_serve(dir, job_execute);
}
