/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/attributes.h>

#ifdef gnuradio_deeprx_EXPORTS
#define DEEPRX_API __GR_ATTR_EXPORT
#else
#define DEEPRX_API __GR_ATTR_IMPORT
#endif
