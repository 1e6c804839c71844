// SPDX-License-Identifier: Apache-2.0
//
// EDA and PPG over edgeframe: a Grove GSR sensor and a PulseSensor on an Arduino Uno, Nano or their like.
//
//     Grove GSR      yellow -> A0    red -> 5V    black -> GND    electrodes on two fingers
//     PulseSensor    signal -> A1    + -> 5V      - -> GND        on a third finger or the ear lobe
//
// EDA, in microsiemens, after the formula of the Grove GSR's maker: with x the ADC's number (0 to 1023),
//
//     R = (1024 + 2 x) * 10 kOhm / (OPEN - x)        EDA = 100 * (OPEN - x) / (1024 + 2 x)
//
// OPEN is x while nobody wears the electrodes: turn the sensor's potentiometer until that is about 512, and write down
// here what it is. PPG is the ADC's number as it is, in the sensor's own unit.
//
// Both are read 100 times a second, at times that do not drift. Eight EDA readings make one value, which is how 10 bits
// resolve small responses. While a person wears this, run the computer from its battery.

#include <edgeframe.h>

#ifdef __AVR__
#include <EEPROM.h>
#endif

const uint8_t EDA_PIN = A0;
const uint8_t PPG_PIN = A1;
const int16_t OPEN = 512;

const uint32_t PERIOD_US = 10000;
const uint8_t PPG_PER_FRAME = 8;  // 80 ms: edgeframe asks for 40 to 100
const float EDA_STEP_US = 0.004f; // microsiemens a step: what the formula gives, 0 to 100, fits an int16

enum { EDA, PPG };
const ef_stream streams[] = {
    {"eda", "uS", 1e6f / PERIOD_US / PPG_PER_FRAME, EF_I2, EDA_STEP_US, 0.0f},
    {"bvp", "a.u.", 1e6f / PERIOD_US, EF_I2, 1.0f, 0.0f},
};
const ef_info info = {"Arduino EDA+PPG", "edgeframe_eda_ppg 1", streams, 2};

ef_device ef;
uint8_t queue[512];

uint32_t next_us;                // when the next sample is due
uint8_t tick;                    // samples of this frame so far
int16_t ppg[PPG_PER_FRAME];
bool ppg_clipped;
int16_t eda_sum, eda_count;

// Another number at every start, also after a power cut.
uint32_t next_boot_id() {
#if defined(__AVR__)
  uint32_t boots;
  EEPROM.get(0, boots);
  EEPROM.put(0, ++boots);
  return boots;
#elif defined(ESP32)
  return esp_random();
#else
#error "write next_boot_id() for this board: a number that is another one at every start"
#endif
}

float eda_microsiemens(float x) { return x < OPEN ? 100.0f * (OPEN - x) / (1024.0f + 2.0f * x) : 0.0f; }

void send_frames(uint32_t first_us) {
  float x = eda_count > 0 ? (float)eda_sum / eda_count : NAN;
  int16_t eda = eda_count > 0 ? (int16_t)(eda_microsiemens(x) / EDA_STEP_US + 0.5f) : EF_MISSING;
  ef_send_i2(&ef, PPG, first_us, ppg_clipped ? EF_CLIPPED : 0, ppg, PPG_PER_FRAME);
  // The mean of the readings belongs in the middle of their time.
  uint32_t middle_us = first_us + (PPG_PER_FRAME - 1) * PERIOD_US / 2;
  ef_send_i2(&ef, EDA, middle_us, x >= OPEN ? EF_LEAD_OFF : x < 1 ? EF_CLIPPED : 0, &eda, 1);
  tick = 0;
  ppg_clipped = false;
  eda_sum = eda_count = 0;
}

void take_sample(bool missed) {
  ppg[tick] = EF_MISSING;
  if (!missed) {
    ppg[tick] = analogRead(PPG_PIN);
    ppg_clipped |= ppg[tick] == 0 || ppg[tick] == 1023;
    eda_sum += analogRead(EDA_PIN);
    eda_count++;
  }
  next_us += PERIOD_US;
  if (++tick == PPG_PER_FRAME) send_frames(next_us - PPG_PER_FRAME * PERIOD_US);
}

// Only what the serial port takes at once, so that sampling never waits for it.
void fill_line() {
  uint8_t chunk[32];
  int room = Serial.availableForWrite();
  Serial.write(chunk, ef_take(&ef, chunk, room < 32 ? room : 32));
}

void setup() {
  Serial.begin(115200);
  uint32_t now_us = micros();
  next_us = now_us;
  if (!ef_begin(&ef, &info, next_boot_id(), queue, sizeof queue, now_us)) {
    pinMode(LED_BUILTIN, OUTPUT);
    digitalWrite(LED_BUILTIN, HIGH); // the description above is too long for one frame
    for (;;) {
    }
  }
}

void loop() {
  uint32_t now_us = micros();
  if (now_us - next_us < 0x80000000u) take_sample(now_us - next_us >= PERIOD_US);
  while (Serial.available() > 0) ef_receive(&ef, (uint8_t)Serial.read(), now_us);
  ef_poll(&ef, now_us);
  fill_line();
}
