/* SPDX-License-Identifier: GPL-3.0-or-later */

#define BOOST_TEST_MODULE deeprx
#include <boost/test/included/unit_test.hpp>
