/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

//! What libgnuradio-deeprx.so shows; all else is hidden.
#define DEEPRX_API __attribute__((visibility("default")))
