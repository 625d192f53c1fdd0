"""The three model shapes of the CPU comparison, and what one of their training steps costs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    n_layer: int
    n_head: int
    n_embd: int
    context: int
    batch: int
    vocab: int

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.context

    @property
    def matmul_parameters(self) -> int:
        """Weights that a matmul reads: qkv, projection and MLP of each layer, and the (tied) head."""
        return 12 * self.n_layer * self.n_embd**2 + self.vocab * self.n_embd

    @property
    def flops_per_token(self) -> int:
        """Forward and backward: 6 per matmul parameter, and 12·L·C·T for attention, counted as if it were not causal
        (as nanoGPT and PaLM's appendix count; skipping the masked half does not raise the count)."""
        return 6 * self.matmul_parameters + 12 * self.n_layer * self.n_embd * self.context


CONFIGS = {
    "S": Config(n_layer=4, n_head=4, n_embd=128, context=128, batch=16, vocab=256),
    "M": Config(n_layer=6, n_head=6, n_embd=384, context=256, batch=8, vocab=256),
    "G": Config(n_layer=12, n_head=12, n_embd=768, context=256, batch=2, vocab=50257),
}
