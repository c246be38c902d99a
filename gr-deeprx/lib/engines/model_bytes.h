/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace gr::deeprx {

//! What a model file held when it was read: nobody changes it any more, and copies share it.
class model_bytes
{
public:
    model_bytes(std::string bytes);

    //! Bytes that outlive this.
    explicit model_bytes(std::string_view elsewhere) : d_view(elsewhere) {}

    /*!
     * \brief A memfd, sealed against writes and another size, which is shared with its other users.
     * \throws std::invalid_argument it is none
     */
    explicit model_bytes(int descriptor);

    std::string_view view() const { return d_view; }

    //! Of the memfd; -1: there is none.
    int descriptor() const { return d_descriptor; }

private:
    std::string_view d_view;
    std::shared_ptr<const void> d_owner;
    int d_descriptor = -1;
};

/*!
 * \brief Reads a model file, which is opened once and never waited for.
 * \throws std::runtime_error one line, without the path: it cannot be read, is no regular file, or
 * is too long
 */
model_bytes read_model_file(const std::string& path);

} // namespace gr::deeprx
