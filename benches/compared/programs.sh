#!/usr/bin/env bash
# Builds the five programs of the comparison into the folder $1: as people build them, optimized, without frame pointers.
set -euo pipefail
cd "$1"

cat > inlining.rs <<'RS'
use std::collections::{BTreeMap, HashMap};
fn words(seed: u64) -> impl Iterator<Item = String> {
    let mut x = seed;
    std::iter::from_fn(move || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        Some((0..(x >> 60) + 3).map(|i| char::from(b'a' + ((x >> (i * 4 % 60)) % 26) as u8)).collect())
    })
}
#[inline(never)] fn count(n: usize) -> HashMap<String, usize> {
    words(7).take(n).fold(HashMap::new(), |mut m, w| { *m.entry(w).or_default() += 1; m })
}
#[inline(never)] fn order(m: &HashMap<String, usize>) -> Vec<(&String, &usize)> {
    let mut v: Vec<_> = m.iter().collect();
    v.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    v
}
#[inline(never)] fn group<'a>(v: &[(&'a String, &usize)]) -> BTreeMap<char, Vec<&'a str>> {
    let mut by = BTreeMap::<char, Vec<&str>>::new();
    for (word, _) in v { by.entry(word.chars().next().unwrap()).or_default().push(word); }
    by
}
fn main() {
    let mut sum = 0;
    for round in 0..60 { let m = count(150_000 + round); let v = order(&m); sum += group(&v).values().map(Vec::len).sum::<usize>(); }
    println!("{sum}");
}
RS
rustc --edition 2024 -Copt-level=3 -Cforce-frame-pointers=no -g inlining.rs

cat > templates.cc <<'CC'
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>
template <typename T> struct Matrix {
    std::vector<T> v; size_t n;
    explicit Matrix(size_t n) : v(n * n, T(1)), n(n) {}
    __attribute__((noinline)) Matrix times(const Matrix &o) const {
        Matrix r(n);
        for (size_t i = 0; i < n; i++) for (size_t j = 0; j < n; j++) { T s{}; for (size_t k = 0; k < n; k++) s += v[i * n + k] * o.v[k * n + j]; r.v[i * n + j] = s; }
        return r;
    }
};
template <typename K> __attribute__((noinline)) size_t fill(std::map<K, std::string> &m, std::function<K(int)> key) {
    for (int i = 0; i < 60000; i++) m[key(i)] = std::to_string(i);
    return m.size();
}
struct Less { bool operator()(const std::string &a, const std::string &b) const { return a < b; } };
int main() {
    size_t sum = 0;
    for (int round = 0; round < 80; round++) {
        std::map<std::string, std::string> names; std::map<long, std::string> numbers;
        sum += fill<std::string>(names, [](int i) { return "k" + std::to_string(i * 7919 % 50021); });
        sum += fill<long>(numbers, [](int i) { return i * 7919L % 50021; });
        std::vector<std::string> all; for (auto &p : names) all.push_back(p.second);
        std::sort(all.begin(), all.end(), Less());
        Matrix<double> a(120); sum += a.times(a).times(a).v[5]; Matrix<int> b(120); sum += b.times(b).v[3];
    }
    std::printf("%zu\n", sum);
}
CC
c++ -O2 -g templates.cc -o templates

cat > pipeline.sh <<'SH'
for i in $(seq 1500); do seq $i 4000 | sed s/1/one/ | sort -r | head -n 3 | wc -c; done | sort -n | tail -n 1
SH

cat > threads.c <<'CC'
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
static volatile unsigned sink;
__attribute__((noinline)) static unsigned mixed(unsigned x, int n) { for (int i = 0; i < n; i++) x = x * 2654435761u ^ x >> 13; return x; }
static int less(const void *a, const void *b) { unsigned x = *(unsigned *)a, y = *(unsigned *)b; return x < y ? -1 : x > y; }
__attribute__((noinline)) static void sorted(unsigned *v, int n) { qsort(v, n, sizeof *v, less); }
static void *work(void *arg) {
    unsigned v[2000], x = (unsigned)(long)arg;
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 2000; i++) v[i] = x = mixed(x, 40);
        sorted(v, 2000);
        unsigned *copy = malloc(sizeof v); memcpy(copy, v, sizeof v); sink += copy[7]; free(copy);
    }
    return 0;
}
int main(void) {
    static pthread_t t[1000];
    for (long i = 0; i < 1000; i++) pthread_create(&t[i], 0, work, (void *)i);
    for (int i = 0; i < 1000; i++) pthread_join(t[i], 0);
}
CC
cc -O2 -g -pthread threads.c -o threads
