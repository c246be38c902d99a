/* SPDX-License-Identifier: GPL-3.0-or-later */

#include <gnuradio/deeprx/engines.h>
#include <gnuradio/deeprx/receiver.h>
#include <gnuradio/deeprx/unitary_fft.h>

#include <iostream>

int main(int, char** arguments)
{
    const auto receiver = gr::deeprx::receiver::make(arguments[1]);
    gr::deeprx::unitary_fft fft(512);
    std::cout << receiver->name() << ", " << gr::deeprx::engines().front() << "\n";
}
