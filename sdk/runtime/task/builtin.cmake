# configs/tasks as C strings: the definitions travel inside the program, so that it finds them
# wherever it is copied.  Included by the top CMakeLists.txt; sets TASK_SOURCES.
file(GLOB TASK_FILES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/configs/tasks/*.json)
list(SORT TASK_FILES)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${TASK_FILES})
set(entries "")
foreach(path ${TASK_FILES})
  get_filename_component(name ${path} NAME_WE)
  file(READ ${path} text)
  string(REPLACE "\\" "\\\\" text "${text}")
  string(REPLACE "\"" "\\\"" text "${text}")
  string(REPLACE "\n" "\\n\"\n     \"" text "${text}")
  string(APPEND entries "    {\"${name}\",\n     \"${text}\"},\n")
endforeach()
list(LENGTH TASK_FILES count)
set(TASK_SOURCES ${CMAKE_BINARY_DIR}/generated/builtin_tasks.c)
file(CONFIGURE OUTPUT ${TASK_SOURCES} @ONLY CONTENT
"/* Made by sdk/runtime/task/builtin.cmake from configs/tasks. */
extern const char *const builtin_tasks[][2];
extern const int builtin_task_count;
const char *const builtin_tasks[][2] = {
@entries@};
const int builtin_task_count = @count@;
")
