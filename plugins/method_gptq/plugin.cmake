# The vectors of lanes.h are only ever passed to functions that are inlined.  Fused multiply-add
# halves the inner loops; a property of the sources, since those come after the tree's own flags.
target_compile_options(${name} PRIVATE -Wno-psabi)
set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS -ffp-contract=fast)
