# The vectors of lanes.h are only ever passed to functions that are inlined; fused multiply-add halves
# the inner loops.
target_compile_options(${name} PRIVATE -Wno-psabi -ffp-contract=fast)
