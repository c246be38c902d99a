// SPDX-License-Identifier: GPL-3.0-or-later
// A SoapySDR device without hardware, for the tests of deeprx radio: what its transmit stream is
// given comes back on two antennas. Noise comes while nothing is sent, as from a radio.
//
// Device arguments: overflow_at=N loses 20000 samples after N received ones; underflow_at=N reports
// one after N sent ones.

#include <SoapySDR/Device.hpp>
#include <SoapySDR/Errors.hpp>
#include <SoapySDR/Formats.h>
#include <SoapySDR/Registry.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <complex>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

namespace {

using sample = std::complex<float>;

constexpr size_t CAPACITY = 1 << 18;
constexpr size_t LOST = 20000;
constexpr float NOISE = 0.001f;

class loopback : public SoapySDR::Device
{
public:
    explicit loopback(const SoapySDR::Kwargs& args)
        : d_overflow_at(number(args, "overflow_at")), d_underflow_at(number(args, "underflow_at"))
    {
    }

    std::string getDriverKey() const override { return "loopback"; }
    size_t getNumChannels(const int direction) const override
    {
        return direction == SOAPY_SDR_RX ? 2 : 1;
    }

    std::vector<std::string> listAntennas(const int direction, const size_t) const override
    {
        return direction == SOAPY_SDR_RX ? std::vector<std::string>{ "LNAL", "LNAW" }
                                         : std::vector<std::string>{ "BAND1" };
    }
    void setAntenna(const int direction, const size_t channel, const std::string& name) override
    {
        d_antennas[{ direction, channel }] = name;
    }
    std::string getAntenna(const int direction, const size_t channel) const override
    {
        return d_antennas.at({ direction, channel });
    }

    bool hasDCOffsetMode(const int direction, const size_t) const override
    {
        return direction == SOAPY_SDR_RX;
    }
    bool hasDCOffset(const int, const size_t) const override { return true; }

    SoapySDR::Range getGainRange(const int, const size_t) const override { return { -12, 61 }; }
    void setGain(const int direction, const size_t channel, const double value) override
    {
        d_gains[{ direction, channel }] = value;
    }
    double getGain(const int direction, const size_t channel) const override
    {
        return d_gains.at({ direction, channel });
    }

    SoapySDR::RangeList getFrequencyRange(const int, const size_t) const override
    {
        return { { 100e6, 3.8e9 } };
    }
    void
    setFrequency(const int, const size_t, const double frequency, const SoapySDR::Kwargs&) override
    {
        d_frequency = frequency;
    }
    double getFrequency(const int, const size_t) const override { return d_frequency; }

    SoapySDR::RangeList getSampleRateRange(const int, const size_t) const override
    {
        return { { 1e6, 10e6 } };
    }
    // As hardware does: the nearest rate that its divider of 40 MHz gives, above 8 MS/s
    void setSampleRate(const int, const size_t, const double rate) override
    {
        d_rate = rate > 8e6 ? 40e6 / std::round(40e6 / rate) : rate;
    }
    double getSampleRate(const int, const size_t) const override { return d_rate; }

    SoapySDR::Stream* setupStream(const int direction,
                                  const std::string& format,
                                  const std::vector<size_t>& channels,
                                  const SoapySDR::Kwargs&) override
    {
        if (format != SOAPY_SDR_CF32)
            throw std::runtime_error("loopback: expected CF32, found " + format);
        d_streams[direction].channels = channels;
        return reinterpret_cast<SoapySDR::Stream*>(&d_streams[direction]);
    }
    void closeStream(SoapySDR::Stream*) override {}
    size_t getStreamMTU(SoapySDR::Stream*) const override { return 4096; }
    int activateStream(SoapySDR::Stream* stream, const int, const long long, const size_t) override
    {
        return activate(stream, true);
    }
    int deactivateStream(SoapySDR::Stream* stream, const int, const long long) override
    {
        return activate(stream, false);
    }

    int writeStream(SoapySDR::Stream*,
                    const void* const* buffers,
                    const size_t n,
                    int&,
                    const long long,
                    const long) override
    {
        std::unique_lock<std::mutex> lock(d_mutex);
        const auto room = [this] { return d_air.size() < CAPACITY; };
        if (!d_changed.wait_for(lock, std::chrono::seconds(2), room))
            return SOAPY_SDR_TIMEOUT;
        if (d_underflow_at && d_sent >= d_underflow_at) {
            d_underflow_at = 0;
            return SOAPY_SDR_UNDERFLOW;
        }
        const auto* samples = static_cast<const sample*>(buffers[0]);
        d_air.insert(d_air.end(), samples, samples + n);
        d_sent += n;
        d_changed.notify_all();
        return n;
    }

    int readStream(SoapySDR::Stream*,
                   void* const* buffers,
                   const size_t room,
                   int&,
                   long long&,
                   const long timeout_us) override
    {
        std::unique_lock<std::mutex> lock(d_mutex);
        if (d_air.empty() && !d_streams[SOAPY_SDR_TX].active) {
            lock.unlock();
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            const size_t n = std::min<size_t>(room, 1024);
            receive(buffers, std::vector<sample>(n));
            return n;
        }
        const auto some = [this] { return !d_air.empty(); };
        if (!d_changed.wait_for(lock, std::chrono::microseconds(timeout_us), some))
            return SOAPY_SDR_TIMEOUT;
        if (d_overflow_at && d_received >= d_overflow_at && d_air.size() >= LOST) {
            d_overflow_at = 0;
            d_air.erase(d_air.begin(), d_air.begin() + LOST);
            return SOAPY_SDR_OVERFLOW;
        }
        const size_t n = std::min(room, d_air.size());
        receive(buffers, std::vector<sample>(d_air.begin(), d_air.begin() + n));
        d_air.erase(d_air.begin(), d_air.begin() + n);
        d_received += n;
        d_changed.notify_all();
        return n;
    }

private:
    struct stream {
        std::vector<size_t> channels;
        bool active = false;
    };

    static size_t number(const SoapySDR::Kwargs& args, const std::string& key)
    {
        return args.count(key) ? std::stoul(args.at(key)) : 0;
    }

    int activate(SoapySDR::Stream* handle, bool active)
    {
        std::lock_guard<std::mutex> lock(d_mutex);
        reinterpret_cast<stream*>(handle)->active = active;
        d_changed.notify_all();
        return 0;
    }

    void receive(void* const* buffers, const std::vector<sample>& sent)
    {
        for (const size_t channel : d_streams[SOAPY_SDR_RX].channels) {
            auto* out = static_cast<sample*>(buffers[channel]);
            const auto gain = std::polar<float>(
                std::pow(10.0, d_gains[{ SOAPY_SDR_RX, channel }] / 20), 1.0f + channel);
            for (const sample& s : sent)
                *out++ = gain * s + sample(d_noise(d_random), d_noise(d_random));
        }
    }

    std::map<std::pair<int, size_t>, std::string> d_antennas;
    std::map<std::pair<int, size_t>, double> d_gains;
    double d_frequency = 0, d_rate = 0;
    std::map<int, stream> d_streams;
    std::deque<sample> d_air;
    std::mutex d_mutex;
    std::condition_variable d_changed;
    size_t d_overflow_at, d_underflow_at, d_sent = 0, d_received = 0;
    std::mt19937 d_random;
    std::normal_distribution<float> d_noise{ 0, NOISE };
};

SoapySDR::KwargsList find(const SoapySDR::Kwargs& args)
{
    if (args.count("driver") && args.at("driver") != "loopback")
        return {};
    SoapySDR::Kwargs found = args;
    found["driver"] = "loopback";
    return { found };
}

SoapySDR::Device* make(const SoapySDR::Kwargs& args) { return new loopback(args); }

const SoapySDR::Registry registry("loopback", &find, &make, SOAPY_SDR_ABI_VERSION);

} // namespace
