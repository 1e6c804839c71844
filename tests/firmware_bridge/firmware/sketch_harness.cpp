/* SPDX-License-Identifier: Apache-2.0
 *
 * The sketch on a board that lines on stdin turn by hand; one line of answer each on stdout. Bytes are hex.
 *
 *     boot NOW              start, or start again
 *     pins EDA PPG          what the ADC reads from now on
 *     room N                bytes that the line takes in every turn of the loop
 *     hear HEX              bytes from the host
 *     run MICROS STEP       turns of the loop, STEP µs each; what was sent
 */
#include "Arduino.h"

#define __AVR__ 1
#include "edgeframe_eda_ppg.ino"
#undef __AVR__

#include <cstdio>
#include <iostream>
#include <sstream>

int main() {
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string what, hex;
        uint32_t a = 0, b = 0;
        words >> what;
        if (what == "hear") {
            words >> hex;
            for (size_t i = 0; i + 1 < hex.size(); i += 2) Serial.from_host.push_back((uint8_t)std::stoi(hex.substr(i, 2), nullptr, 16));
        }
        words >> a >> b;
        if (what == "boot") {
            clock_us = a;
            setup();
        }
        if (what == "pins") {
            pins[A0] = (int)a;
            pins[A1] = (int)b;
        }
        if (what == "room") Serial.room = (int)a;
        if (what == "run") {
            for (uint32_t end_us = clock_us + a; clock_us != end_us; clock_us += b) loop();
            for (uint8_t byte : Serial.sent) std::printf("%02x", byte);
            Serial.sent.clear();
        }
        std::printf("\n");
        std::fflush(stdout);
    }
}
