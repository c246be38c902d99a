# SPDX-License-Identifier: GPL-3.0-or-later
#
# LibTorch as it comes inside the torch Python package, CPU or CUDA: the target LibTorch::LibTorch,
# and LibTorch_LIBRARY_DIR.
#
# Torch's own find_package(Torch) asks for the CUDA toolkit when the wheel was built with CUDA;
# compiling against it needs no more than its headers and these libraries.
#
# Looks in TORCH_ROOT (the folder that holds include/ and lib/), then in the project's .venv, then
# in the active virtual environment, then where /usr/bin/python3 would import torch from.

set(TORCH_ROOT "" CACHE PATH "The torch package (holds include/ and lib/); empty: look for it")

if(NOT TORCH_ROOT)
    execute_process(
        COMMAND
            /usr/bin/python3 -c
            "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
        OUTPUT_VARIABLE _system_torch
        OUTPUT_STRIP_TRAILING_WHITESPACE
        ERROR_QUIET)
    file(GLOB _candidates ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch
         $ENV{VIRTUAL_ENV}/lib/python3*/site-packages/torch)
    list(APPEND _candidates ${_system_torch})
else()
    set(_candidates ${TORCH_ROOT})
endif()

find_path(
    LibTorch_INCLUDE_DIR torch/script.h
    HINTS ${_candidates}
    PATH_SUFFIXES include
    NO_DEFAULT_PATH)
get_filename_component(_torch_root "${LibTorch_INCLUDE_DIR}" DIRECTORY)
set(LibTorch_LIBRARY_DIR ${_torch_root}/lib)
foreach(_lib torch torch_cpu c10)
    find_library(LibTorch_${_lib}_LIBRARY ${_lib} HINTS ${LibTorch_LIBRARY_DIR} NO_DEFAULT_PATH)
    mark_as_advanced(LibTorch_${_lib}_LIBRARY)
endforeach()

# Torch 2.9 moved the version header.
foreach(_header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(LibTorch_INCLUDE_DIR AND EXISTS ${LibTorch_INCLUDE_DIR}/${_header})
        file(STRINGS ${LibTorch_INCLUDE_DIR}/${_header} _version
             REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
        string(REGEX REPLACE "[^0-9]+([0-9]+)[^0-9]+([0-9]+)[^0-9]+([0-9]+)" "\\1.\\2.\\3"
                             LibTorch_VERSION "${_version}")
        break()
    endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
    LibTorch
    REQUIRED_VARS LibTorch_INCLUDE_DIR LibTorch_torch_LIBRARY LibTorch_torch_cpu_LIBRARY
                  LibTorch_c10_LIBRARY
    VERSION_VAR LibTorch_VERSION
    REASON_FAILURE_MESSAGE
        "run ./dev once (it makes .venv with torch), or give -DTORCH_ROOT=.../site-packages/torch")
mark_as_advanced(LibTorch_INCLUDE_DIR)

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
    add_library(LibTorch::LibTorch INTERFACE IMPORTED)
    target_include_directories(
        LibTorch::LibTorch SYSTEM INTERFACE ${LibTorch_INCLUDE_DIR}
                                            ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include)
    # libtorch pulls in libtorch_cuda and has no symbol that we use: keep it, or CUDA is lost.
    target_link_libraries(
        LibTorch::LibTorch
        INTERFACE -Wl,--push-state,--no-as-needed ${LibTorch_torch_LIBRARY} -Wl,--pop-state
                  ${LibTorch_torch_cpu_LIBRARY} ${LibTorch_c10_LIBRARY})
endif()
