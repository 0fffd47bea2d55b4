# hw_cpu links the OpenMP build of OpenBLAS (LAPACK factorisations) by its own path, so that it
# shares the host's thread pool.
target_include_directories(hw_cpu PRIVATE ${OPENBLAS_INCLUDE})
target_link_libraries(hw_cpu PRIVATE ${OPENBLAS_OPENMP})
set_target_properties(hw_cpu PROPERTIES BUILD_RPATH ${OPENBLAS_OPENMP_DIR}
  INSTALL_RPATH ${OPENBLAS_OPENMP_DIR})
