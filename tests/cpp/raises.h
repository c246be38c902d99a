/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <boost/test/unit_test.hpp>

#include <functional>
#include <string>

//! Expects an exception of one line that holds \p words.
template <typename E = std::exception>
void check_raises(const std::function<void()>& call, const std::string& words)
{
    BOOST_CHECK_EXCEPTION(call(), E, [&words](const E& e) {
        const std::string text = e.what();
        BOOST_TEST_INFO(text);
        return text.find(words) != std::string::npos && text.find('\n') == std::string::npos;
    });
}
