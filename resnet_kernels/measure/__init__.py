"""Benchmarks: our operators and networks, and everybody else's, against each other and the physical limit.

    resnet-kernels bench layers|networks|training|primitives|all
    resnet-kernels bench compare OLD.json NEW.json
    resnet-kernels bench gaps layers.json

What makes a figure honest, and where:

* `clock`: CUDA events on a GPU, the host's clock on a CPU, and the record says which;
* `inputs`: random data; cold caches, by turns over more input sets than the cache holds or by a write over
  the cache before every run;
* `engine`: all implementations of a case interleaved round by round, so that clocks and heat fall on all
alike; * `match`: results compared with float64 in the same session, ours and the peers', before anything is
timed; * `statistics`: medians, quartiles, and ratios with exact rank intervals; "unclear" is an answer;
* `roofline`: shares of ceilings that were measured on the device, in the same session;
* `environment`, `record`: device, clocks, versions and revision in every file, written as it grows.
"""
