# SPDX-License-Identifier: GPL-3.0-or-later
#
# find_package(gnuradio-deeprx): the target gnuradio::gnuradio-deeprx, headers in gnuradio/deeprx.

include(CMakeFindDependencyMacro)
find_dependency(Gnuradio 3.10)
include(${CMAKE_CURRENT_LIST_DIR}/gnuradio-deeprxTargets.cmake)
