/* SPDX-License-Identifier: GPL-3.0-or-later */

// Paths on lines of standard input. Of each file, what the reader of the archive makes of it:
// "accepted" and the SHA-256 of what it would give to LibTorch, or "refused" and why.

#include "model_archive.h"
#include "printable.h"

#include <iostream>
#include <stdexcept>

int main()
{
    using namespace gr::deeprx;
    for (std::string path; std::getline(std::cin, path);) {
        try {
            const model_archive archive(read_model_file(path));
            std::cout << "accepted " << sha256(archive.rewritten().text()) << std::endl;
        } catch (const std::runtime_error& e) {
            std::cout << "refused " << printable(e.what()) << std::endl;
        }
    }
}
