# The vectors of lanes.h are only ever passed to functions that are inlined.
target_compile_options(${name} PRIVATE -Wno-psabi)
