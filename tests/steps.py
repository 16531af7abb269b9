"""The steps that drawn graphs are made of so that an exact pass has something to do."""

STEPS: dict[str, list[tuple[str, ...]]] = {
    "fold-constants": [
        ("computed_constant",),
        ("computed_shape", "computed_constant", "random"),
        ("grown_constant", "computed_shape", "computed_constant"),
    ],
    "eliminate-identity": [
        ("noop",),
        ("noop", "transpose", "channel_pad", "cast", "reshape"),
    ],
    "simplify": [
        ("cut", "noop", "transpose", "reshape"),
        ("channel_pad", "conv", "flatten", "matmul", "arithmetic"),
        ("branches", "two_layers", "batchnorm"),
        ("parts", "bounds", "moves"),
        ("axes", "as_large", "scale", "twice"),
        ("parts_of_activations", "parts_of_norms"),
    ],
    "fold-batchnorm": [
        ("conv", "batchnorm", "conv_transpose", "batchnorm"),
        ("gemm", "batchnorm"),
    ],
    "cse": [
        ("again", "arithmetic", "leaky_relu", "opaque"),
    ],
    "merge": [
        ("conv", "residual", "batchnorm", "activation"),
        ("conv", "depthwise", "concat", "channel_pad"),
        ("conv", "shared_weight", "squeeze_excite", "scale", "prelu"),
        ("gemm", "matmul", "arithmetic", "batchnorm"),
        ("conv", "global_pool", "flatten", "gemm", "activation"),
        ("conv", "conv_transpose", "grouped", "conv", "activation"),
        ("conv", "pool", "scale", "channel_pad", "noop"),
        ("gemm", "matmul", "attention", "conv"),
        ("concat", "conv", "scale", "activation"),
    ],
    "eliminate-dead-channels": [
        ("conv", "activation", "residual"),
        ("conv", "depthwise", "grouped", "scale"),
        ("conv", "pool", "channel_pad", "concat", "batchnorm"),
        ("conv", "flatten", "gemm", "matmul", "arithmetic"),
        ("shared_weight", "conv_transpose", "squeeze_excite", "prelu"),
        ("attention", "gemm", "activation"),
        ("conv", "cut", "activation", "cut", "batchnorm"),
    ],
}
