/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

namespace gr::deeprx {

//! The vector instructions that every processor of this architecture has.
#if defined(__x86_64__)
inline constexpr char every_processor[] = "SSE2";
#elif defined(__aarch64__)
inline constexpr char every_processor[] = "NEON";
#else
inline constexpr char every_processor[] = "any";
#endif

} // namespace gr::deeprx
