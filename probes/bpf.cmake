# SPDX-License-Identifier: Apache-2.0
# sonde_bpf_object(OUT SOURCE.bpf.c [FOLDER]): compiles one BPF object with clang, with dependency tracking, into FOLDER
# (by default modules/ of the build) and sets OUT to its path. The target bpf_objects is all of them.
set(SONDE_MODULES "" CACHE PATH "take the BPF objects from modules/ of another build of these sources, which made its bpf_objects, instead of compiling them")
find_program(SONDE_CLANG NAMES clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 REQUIRED)
find_program(SONDE_STRIP NAMES llvm-strip llvm-strip-19 llvm-strip-18 llvm-strip-17 llvm-strip-16 llvm-strip-15 llvm-strip-14 REQUIRED)
set(SONDE_BPF_FLAGS -g -O2 -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-declarations)
string(REGEX REPLACE "^(x86_64|amd64|AMD64)$" "x86" SONDE_BPF_ARCH "${CMAKE_SYSTEM_PROCESSOR}")
string(REGEX REPLACE "^(aarch64)$" "arm64" SONDE_BPF_ARCH "${SONDE_BPF_ARCH}")

function(sonde_bpf_object out source)
  get_filename_component(name ${source} NAME_WE)
  set(folder ${CMAKE_BINARY_DIR}/modules)
  if(ARGC GREATER 2)
    set(folder ${ARGV2})
  endif()
  set(object ${folder}/${name}.bpf.o)
  if(NOT TARGET bpf_objects)
    add_custom_target(bpf_objects)
  endif()
  add_custom_target(bpf_object_${name} DEPENDS ${object})
  add_dependencies(bpf_objects bpf_object_${name})
  set(${out} ${object} PARENT_SCOPE)
  if(SONDE_MODULES AND ARGC LESS 3)
    add_custom_command(OUTPUT ${object} COMMAND ${CMAKE_COMMAND} -E copy ${SONDE_MODULES}/${name}.bpf.o ${object}
                       DEPENDS ${SONDE_MODULES}/${name}.bpf.o COMMENT "BPF ${name}, as it is in ${SONDE_MODULES}" VERBATIM)
    return()
  endif()
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    COMMAND ${SONDE_CLANG} ${SONDE_BPF_FLAGS} -D__TARGET_ARCH_${SONDE_BPF_ARCH}
            -I${CMAKE_SOURCE_DIR}/agent/include -I${CMAKE_SOURCE_DIR} -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
    COMMAND ${SONDE_STRIP} -g ${object}
    DEPENDS ${source}
    DEPFILE ${object}.d
    COMMENT "BPF ${name}"
    VERBATIM)
endfunction()
