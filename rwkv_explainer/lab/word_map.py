"""Which tokens a model's embedding finds alike, and a flat map of words on which the alike lie close together.

Chapter "Embedding and unembedding".
"""

import math

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.model import RWKVLM

__all__ = ["KINDS", "lay_flat", "token_directions", "words_of_kinds"]

Directions = Float[Tensor, "tokens channels"]

KINDS = {  # by people who speak English: no model was told
    "months": "January February March April May June July August September October November December",
    "numbers": "one two three four five six seven eight nine ten hundred thousand",
    "helping verbs": "can could may might must should will would",
    "forms of be and have": "is was are were be been has had have",
    "countries": "France Spain Germany Italy England China Japan India Russia Brazil Greece Egypt",
    "cities": "Paris London Rome Berlin Madrid Tokyo Moscow",
    "family": "mother father son child children parents king",
    "body": "heart blood brain skin bone muscle eye eyes hand hands lungs kidney",
    "directions": "north south east west northern southern eastern western left right",
    "colors": "red blue green white black",
    "animals": "dog cat cow animals",
    "matter": "iron gold silver copper water oxygen carbon hydrogen nitrogen",
    "pronouns": "he she it they we you I his her their our my",
    "prepositions": "in on at by with from into through between during after before under over",
    "sizes": "large small big little long short high low great",
    "time": "day week month year years days months hours minutes century",
    "change": "increase decrease increased decreased reduce improve rise fall",
    "questions": "what when where why how which who",
    "conjunctions": "because although while if since whereas that but and or",
    "cells": "cell cells protein proteins gene genes DNA virus bacteria tissue",
    "state": "government law court state president party war army church",
}


def words_of_kinds(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The words of `KINDS` that are a single token with the space in front: their ids, and each one's kind, from 0."""
    found = [
        (ids[0], kind)
        for kind, words in enumerate(KINDS.values())
        for word in words.split()
        if len(ids := tokenizer.encode(" " + word).ids) == 1
    ]
    return [token_id for token_id, _ in found], [kind for _, kind in found]


def token_directions(model: RWKVLM) -> Directions:
    """What a model's embedding makes of each token of its vocabulary, scaled to a norm of 1: (vocabulary, channels)."""
    weight = model.embedding.embedding.weight
    embedded = model.embedding(torch.arange(model.vocab_size, device=weight.device)).detach()  # (vocabulary, channels)
    return embedded / embedded.norm(dim=-1, keepdim=True)


def lay_flat(directions: Directions, neighbors: float = 10.0, steps: int = 200) -> Float[Tensor, "tokens 2"]:
    """Places on a plane that keep close what is close among the directions: t-SNE (van der Maaten and Hinton, 2008).

    Each point is pulled by those that it is near to and pushed by all. What is far apart on the map may be far apart by
    any amount, and directions on the map mean nothing. Nothing is drawn at random: the same directions give the same
    map.

    Args:
        directions: of norm 1.
        neighbors: about how many each point is held by; the method calls it perplexity.
        steps: of the arrangement.
    """
    points = directions.float()
    distances = (2 - 2 * points @ points.T).fill_diagonal_(math.inf)  # (tokens, tokens), squared
    held = neighbor_shares(distances, neighbors)
    pull = ((held + held.T) / (2 * len(points))).clamp_min(1e-9)  # (tokens, tokens)
    u, s, _ = torch.linalg.svd(points - points.mean(dim=0), full_matrices=False)
    places = u[:, :2] * s[:2]
    places = 0.01 * places / places.std()  # (tokens, 2), small: they unfold from the middle
    speed = torch.zeros_like(places)
    for step in range(steps):
        early = step < 80  # at first pulls are exaggerated, so that groups find together
        squares = (places**2).sum(dim=1)  # (tokens,)
        near = 1 / (1 + squares[:, None] + squares - 2 * places @ places.T)  # (tokens, tokens)
        near.fill_diagonal_(0)
        force = ((4 if early else 1) * pull - near / near.sum()) * near  # (tokens, tokens)
        toward = force.sum(dim=1, keepdim=True) * places - force @ places  # (tokens, 2)
        speed = (0.5 if early else 0.8) * speed - len(points) / 2 * toward
        places = places + speed
    return places.to(directions.dtype)


def neighbor_shares(distances: Float[Tensor, "tokens tokens"], neighbors: float) -> Float[Tensor, "tokens tokens"]:
    """For each token, shares of all others that fall with distance, spread over about so many of them."""
    low, high = torch.zeros(2, len(distances), 1, dtype=distances.dtype)
    high = high + 1000.0  # (tokens, 1), how steeply the shares fall: found by halving
    for _ in range(40):
        steepness = (low + high) / 2
        shares = torch.softmax(-steepness * distances, dim=1)  # (tokens, tokens)
        entropy = -(shares * shares.clamp_min(1e-12).log()).sum(dim=1, keepdim=True)  # (tokens, 1)
        too_wide = entropy > math.log(neighbors)
        low, high = torch.where(too_wide, steepness, low), torch.where(too_wide, high, steepness)
    return shares
