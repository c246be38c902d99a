# SPDX-License-Identifier: GPL-3.0-or-later
#
# deeprx-engine: all of LibTorch, behind headers that do not include it, because LibTorch ships its
# own fmt and pybind11, which must not meet GNU Radio's. It needs no GNU Radio.

set(engine_sources
    cpu_instructions.cc
    device_engine.cc
    device_queue.cc
    engine.cc
    load_engine.cc
    model_archive.cc
    model_info.cc
    sha256.cc
    slot_geometry.cc
    torchscript_engine.cc
    torchscript_vetting.cc)
if(TARGET openvino::runtime AND TARGET TBB::tbb)
    list(APPEND engine_sources ir_vetting.cc openvino_engine.cc)
else()
    list(APPEND engine_sources no_openvino_engine.cc)
endif()
list(TRANSFORM engine_sources PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
add_library(deeprx-engine STATIC ${engine_sources})
set_target_properties(deeprx-engine PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_compile_options(deeprx-engine PRIVATE -Wall -Wextra)
target_include_directories(deeprx-engine INTERFACE ${CMAKE_CURRENT_LIST_DIR})
target_link_libraries(deeprx-engine PRIVATE LibTorch::LibTorch nlohmann_json::nlohmann_json Threads::Threads
                                            $<TARGET_NAME_IF_EXISTS:openvino::runtime>
                                            $<TARGET_NAME_IF_EXISTS:TBB::tbb>)
