/* SPDX-License-Identifier: Apache-2.0
 *
 * As much of Arduino as the sketch needs, with a clock, pins and a line that a test turns by hand.
 */
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <deque>

enum { A0 = 14, A1 = 15, LED_BUILTIN = 13, OUTPUT = 1, HIGH = 1 };

struct FakeSerial {
    std::deque<uint8_t> from_host, sent;
    int room = 63;
    void begin(long) {}
    int available() { return (int)from_host.size(); }
    int read() {
        int byte = from_host.front();
        from_host.pop_front();
        return byte;
    }
    int availableForWrite() { return room; }
    void write(const uint8_t *bytes, size_t count) {
        if ((int)count > room) std::abort(); /* a real one would wait here */
        sent.insert(sent.end(), bytes, bytes + count);
    }
};

struct FakeEeprom {
    uint32_t cell = 0xffffffffu;
    void get(int, uint32_t &value) { value = cell; }
    void put(int, uint32_t value) { cell = value; }
};

inline FakeSerial Serial;
inline FakeEeprom EEPROM;
inline uint32_t clock_us;
inline int pins[20];

inline uint32_t micros() { return clock_us; }
inline int analogRead(int pin) { return pins[pin]; }
inline void pinMode(int, int) {}
inline void digitalWrite(int, int) {}
