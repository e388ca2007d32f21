//! The codec's pieces on 20 ms of speech: G.711 both ways, base64, resampling.

use std::hint::black_box;

use bench::{frame, frame_pcm24k};
use codec::rate::SampleRate;
use codec::resample::Resampler;
use codec::{base64, g711, pcm};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn g711(c: &mut Criterion) {
    let mut group = c.benchmark_group("g711");
    group.throughput(Throughput::Elements(160));
    let (mut samples, mut bytes) = (Vec::new(), Vec::new());
    g711::ulaw_decode(frame(), &mut samples);
    let pcm = samples.clone();
    let mut alaw = Vec::new();
    g711::alaw_encode(&pcm, &mut alaw);

    group.bench_function("ulaw_decode", |b| {
        b.iter(|| {
            samples.clear();
            g711::ulaw_decode(black_box(frame()), &mut samples);
        });
    });
    group.bench_function("ulaw_encode", |b| {
        b.iter(|| {
            bytes.clear();
            g711::ulaw_encode(black_box(&pcm), &mut bytes);
        });
    });
    group.bench_function("alaw_decode", |b| {
        b.iter(|| {
            samples.clear();
            g711::alaw_decode(black_box(&alaw), &mut samples);
        });
    });
    group.bench_function("alaw_encode", |b| {
        b.iter(|| {
            bytes.clear();
            g711::alaw_encode(black_box(&pcm), &mut bytes);
        });
    });
    group.finish();
}

fn base64(c: &mut Criterion) {
    let mut wide = Vec::new();
    pcm::to_le_bytes(&frame_pcm24k(), &mut wide);
    let mut group = c.benchmark_group("base64");
    for (name, bytes) in [("ulaw", frame()), ("pcm24k", &wide)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let (mut text, mut out) = (Vec::new(), Vec::new());
        base64::encode(bytes, &mut text);
        group.bench_function(format!("check_{name}"), |b| {
            b.iter(|| base64::check(black_box(&text)));
        });
        group.bench_function(format!("decode_{name}"), |b| {
            b.iter(|| {
                out.clear();
                base64::decode(black_box(&text), &mut out)
            });
        });
        group.bench_function(format!("encode_{name}"), |b| {
            b.iter(|| {
                text.clear();
                base64::encode(black_box(bytes), &mut text);
            });
        });
    }
    group.finish();
}

fn resample(c: &mut Criterion) {
    let mut narrow = Vec::new();
    g711::ulaw_decode(frame(), &mut narrow);
    let wide = frame_pcm24k();
    let (low, high) = (SampleRate::HZ_8000, SampleRate::HZ_24000);
    let mut group = c.benchmark_group("resample_20ms");
    for (name, from, to, input) in
        [("8k_to_24k", low, high, &narrow), ("24k_to_8k", high, low, &wide)]
    {
        let mut resampler = Resampler::new(from, to).expect("the resampler knows both rates");
        let mut out = Vec::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                resampler.process(black_box(input), &mut out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, g711, base64, resample);
criterion_main!(benches);
