"""The nets of a supernet's two stages, around a tiny model."""

from __future__ import annotations

from typing import Any

from compress.elastic import make_elastic
from compress.elastic.supernet import PartsConfig, SelectionConfig, SizesConfig, make_selection, make_subnets, parts_of
from compress.training.preparation import prepare_for_training
from compress.training.supernet import JointConfig, JointNet, SelectionNet


def selecting(model: Any, config: SelectionConfig, parts: tuple[int, ...] = (8, 5, 2)) -> SelectionNet:
    prepare_for_training(model, dropout=0.0)
    asked = SizesConfig(parts=parts)
    sizes = make_subnets(asked, parts_of(model, PartsConfig("module"), asked.table(model.config)))
    return SelectionNet(model.train(), make_selection(config, sizes, 10, seed=0), config)


def joint(model: Any, config: JointConfig, parts: tuple[int, ...] = (8, 5, 2)) -> JointNet:
    asked = SizesConfig(parts=parts)
    sizes = make_subnets(asked, parts_of(model, PartsConfig("module"), asked.table(model.config)))
    elastic = make_elastic(model, sizes.structures(list(range(len(sizes.parts)))), own=config.own)
    prepare_for_training(elastic, dropout=0.0)
    return JointNet(elastic.train(), config, seed=0)
