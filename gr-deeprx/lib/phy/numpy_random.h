/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>
#include <initializer_list>

namespace gr::deeprx {

/*!
 * \brief The numbers of NumPy's default_rng(entropy).random(), so that C++ and Python draw alike.
 *
 * NumPy keeps the streams of SeedSequence and PCG64 the same from version to version (NEP 19).
 * SeedSequence: M. E. O'Neill, "Developing a seed_seq alternative"; PCG64: her PCG XSL RR 128/64.
 */
class numpy_random
{
public:
    //! \param entropy as a tuple of non-negative integers
    explicit numpy_random(std::initializer_list<uint64_t> entropy);

    //! Uniform in [0, 1), multiples of 2^-53.
    double operator()();

private:
    __extension__ using uint128 = unsigned __int128;
    void step();

    uint128 d_state;
    uint128 d_increment;
};

} // namespace gr::deeprx
