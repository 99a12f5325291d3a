"""NEAT: genomes, their variation, species and offspring, and the tasks of its paper."""

import math

import numpy as np
import optuna
import pytest

from benchmarks import neat as neat_tasks
from benchmarks.neat import TASKS, derivatives, drive, search, step, xor
from nas_plugins import ArchitectureError, UnsupportedSpaceError
from nas_plugins.neat import (
    GENOME,
    NEAT,
    Gene,
    Genome,
    GenomeSpace,
    activate,
    depth,
    weight_matrix,
)
from nas_plugins.neat.variation import Mutation, add_connection, add_node, crossover, distance
from nas_plugins.strategies import RegularizedEvolution
from nas_plugins.testing.strategies import StrategyContract, toy_space

SMALL = {"population_size": 10}


def space_of(**options):
    return GenomeSpace(**{"inputs": 2, "outputs": 1, **options})


def genome_of(*genes):
    return Genome.of(2, 1, [Gene(*gene) for gene in genes])


def play(strategy, steps):
    """Ask and tell; the fitness is XOR's."""
    told = []
    for _ in range(steps):
        proposal = strategy.ask()
        [fitness], _ = xor([strategy.space.genome(proposal)])
        strategy.tell(proposal, float(fitness))
        told.append((proposal, float(fitness)))
    return told


# -- genomes ----------------------------------------------------------------------------


def test_json_keeps_a_genome():
    genome = add_node(genome_of((0, 0, 3, 0.1), (0, 2, 3, -1.5)), 4, np.random.default_rng(0))
    assert Genome.from_json(genome.to_json()) == genome
    assert len(genome.nodes) == 5  # two inputs, bias, output, hidden


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no genome"),
        ("[2,1]", "not enough values"),
        ("[2,1,[[0,0,3,null,true]]]", "is no genome"),
        ("[2,1,[[0,0,1,0.5,true]]]", "leads into a sensor"),
        ("[2,1,[[0,0,9,0.5,true]]]", "neither fixed nor hidden"),
        ("[2,1,[[0,0,3,0.5,true],[1,0,3,0.5,true]]]", "connect the same nodes"),
        ("[2,1,[[0,1,3,0.5,true],[0,0,3,0.5,true]]]", "out of order"),
        ("[2,-1,[]]", "not a natural number"),
    ],
)
def test_what_is_no_genome_is_refused(text, words):
    with pytest.raises(ArchitectureError, match=words):
        Genome.from_json(text)
    with pytest.raises(ArchitectureError, match="genome: 2 inputs, 1 outputs, without cycles"):
        space_of().validate({GENOME: text})


def test_spaces_are_equal_when_their_genomes_are():
    assert space_of() == space_of()
    assert space_of() != space_of(recurrent=True)
    assert space_of() != space_of(outputs=2)


def test_a_cycle_belongs_to_recurrent_spaces_alone():
    cyclic = {GENOME: genome_of((0, 0, 3, 1.0), (1, 3, 3, 1.0)).to_json()}
    space_of(recurrent=True).validate(cyclic)
    with pytest.raises(ArchitectureError, match="without cycles"):
        space_of().validate(cyclic)


def test_the_network_is_the_sigmoid_of_weighted_sums():
    def sigmoid(x):
        return 1 / (1 + math.exp(-4.9 * x))

    hidden = 2**48
    genome = genome_of(
        (0, 0, 3, 0.5), (0, 1, 3, 9.0, False), (0, 2, 3, -0.25), (1, 0, hidden, 2.0),
        (1, hidden, 3, 1.5),
    )  # fmt: skip
    weights, values = weight_matrix(genome), np.zeros(5)
    assert depth(genome) == 2
    for _ in range(2):
        values = activate(weights, values, np.array([0.3, 0.7]))
    expected = sigmoid(0.5 * 0.3 - 0.25 + 1.5 * sigmoid(2.0 * 0.3))
    assert values[3] == pytest.approx(expected)
    # Stacked with another, each is as if alone.
    other = genome_of((0, 0, 3, 1.0))
    stacked = np.stack([weight_matrix(g, 5) for g in (genome, other)])
    both = np.zeros((2, 5))
    for _ in range(2):
        both = activate(stacked, both, np.array([[0.3, 0.7]] * 2))
    assert both[0] == pytest.approx(values)
    assert both[1, 3] == pytest.approx(sigmoid(0.3))


def test_a_cycle_has_no_depth():
    with pytest.raises(ValueError, match="has a cycle"):
        depth(genome_of((0, 0, 3, 1.0), (1, 3, 3, 1.0)))


# -- variation --------------------------------------------------------------------------


def test_a_new_node_splits_a_connection_and_is_the_same_all_through_a_generation():
    genome, rng = genome_of((0, 0, 3, -0.7)), np.random.default_rng(0)
    child = add_node(genome, 5, rng)
    split, into, out = child.genes
    assert split == (0, 0, 3, -0.7, False)
    assert into == (5, 0, into.target, 1.0, True)
    assert out == (5, into.target, 3, -0.7, True)
    assert add_node(genome, 5, rng) == child
    assert add_node(genome, 6, rng).genes[1].target != into.target


@pytest.mark.parametrize("recurrent", [False, True])
def test_mutation_closes_cycles_only_where_it_may(recurrent):
    rng = np.random.default_rng(0)
    mutation = Mutation(node=0.3, connection=0.9, recurrent=recurrent)
    genome = genome_of((0, 0, 3, 1.0), (0, 1, 3, 1.0), (0, 2, 3, 1.0))
    for generation in range(1, 60):
        genome = mutation(genome, generation, rng)
        assert Genome.from_json(genome.to_json()) == genome
    assert genome.is_recurrent == recurrent
    assert len(genome.nodes) > 6


def test_a_mutation_is_a_node_or_a_connection_or_of_weights():
    genome, rng = genome_of((0, 0, 3, 1.0), (0, 2, 3, 1.0)), np.random.default_rng(0)
    mutation = Mutation(weights=1.0, node=0.2, connection=0.5)
    sizes = []
    for _ in range(2000):
        mutant = mutation(genome, 1, rng)
        kept = {gene.innovation: gene.weight for gene in mutant.genes}
        assert (kept[0, 0, 3] == kept[0, 2, 3] == 1.0) == (len(mutant.genes) > 2)
        sizes.append(len(mutant.genes))
        if sizes[-1] == 4:  # a node: never on the way from the bias, which is node 2
            assert not mutant.genes[0].enabled
        if sizes[-1] == 3:
            assert abs(kept[1, 1, 3]) <= 1.0
    shares = [sizes.count(size) / 2000 for size in (4, 3, 2)]
    assert shares == pytest.approx([0.2, 0.8 * 0.5, 0.8 * 0.5], abs=0.03)


def test_a_full_network_gets_no_connection():
    genome = genome_of((0, 0, 3, 1.0), (0, 1, 3, 1.0), (0, 2, 3, 1.0))
    rng = np.random.default_rng(0)
    assert add_connection(genome, 1, rng, scale=1.0, recurrent=False) == genome


def test_nine_in_ten_weights_are_perturbed_and_the_rest_new():
    genome = genome_of((0, 0, 3, 1000.0), (0, 1, 3, 1000.0), (0, 2, 3, 1000.0))
    mutation = Mutation(node=0, connection=0, limit=1e6)
    rng = np.random.default_rng(0)
    mutants = [mutation(genome, 1, rng) for _ in range(2000)]
    mutated = [mutant for mutant in mutants if mutant != genome]
    assert len(mutated) == pytest.approx(1600, abs=60)
    weights = np.array([[gene.weight for gene in mutant.genes] for mutant in mutated])
    assert ((np.abs(weights) <= 2.5) | (np.abs(weights - 1000) <= 2.5)).all()
    assert (weights > 500).mean() == pytest.approx(0.9, abs=0.02)
    capped = Mutation(weights=1.0, node=0, connection=0)(genome, 1, rng)
    assert max(gene.weight for gene in capped.genes) == 8.0


def test_distance_is_equation_1():
    first = genome_of((0, 0, 3, 1.0), (0, 1, 3, 2.0), (1, 2, 3, 5.0))
    second = genome_of((0, 0, 3, 0.5), (0, 1, 3, 4.0), (2, 3, 3, 1.0), (3, 0, 2**48, 1.0))
    # Disjoint: (1, 2, 3); excess: the two of generations 2 and 3; mean difference 1.25.
    found = distance(first, second, excess=10.0, disjoint=1.0, weights=0.4)
    assert found == pytest.approx(10 * 2 + 1 + 0.4 * 1.25)
    assert found == distance(second, first, excess=10.0, disjoint=1.0, weights=0.4)
    many = [(0, i, 3, 0.0) for i in (0, 1, 2)] + [(0, 2**48 + i, 3, 0.0) for i in range(17)]
    large = genome_of(*many)  # twenty genes: unlike ones count in proportion
    larger = genome_of(*many, (1, 3, 3, 1.0))
    assert distance(large, larger, excess=1, disjoint=1, weights=1) == pytest.approx(1 / 21)


def test_crossover_takes_matching_genes_from_either_and_the_rest_from_the_fitter():
    fitter = genome_of((0, 0, 3, 1.0), (0, 1, 3, 1.0, False), (1, 2, 3, 1.0, False))
    other = genome_of((0, 0, 3, 2.0), (0, 1, 3, 2.0), (2, 3, 3, 2.0))
    rng = np.random.default_rng(0)
    children = [crossover(fitter, other, rng, keep_disabled=0.75) for _ in range(2000)]
    assert {tuple(g.innovation for g in c.genes) for c in children} == {
        tuple(g.innovation for g in fitter.genes)
    }
    first, second, third = zip(*(child.genes for child in children), strict=True)
    assert np.mean([gene.weight for gene in first]) == pytest.approx(1.5, abs=0.05)
    # Disabled three times in four, otherwise as the one of the two that is taken.
    assert np.mean([gene.enabled for gene in second]) == pytest.approx(0.25 / 2, abs=0.03)
    assert set(third) == {(1, 2, 3, 1.0, False)}
    means = [crossover(fitter, other, rng, keep_disabled=0.75, average=True) for _ in range(2000)]
    assert {tuple(gene.weight for gene in child.genes) for child in means} == {(1.5, 1.5, 1.0)}
    assert np.mean([c.genes[1].enabled for c in means]) == pytest.approx(0.25, abs=0.04)


# -- the strategy -----------------------------------------------------------------------


class TestContract(StrategyContract):
    """NEAT is a strategy as every other, over its own space."""

    test_single_architecture = None  # a space of one genome there is not
    test_a_grown_space_keeps_its_history = None  # the space has all genomes from the start

    @pytest.fixture
    def strategy(self):
        return lambda space, seed: NEAT(space, seed=seed, **SMALL)

    @pytest.fixture
    def space(self):
        return space_of()


def test_defaults_are_the_papers():
    strategy = NEAT(space_of())
    assert strategy.population_size == 150
    assert strategy.threshold == 3.0
    assert strategy._coefficients == {"excess": 1.0, "disjoint": 1.0, "weights": 0.4}
    assert (strategy.mutate_only, strategy.interspecies, strategy.keep_disabled) == (
        0.25,
        0.001,
        0.75,
    )
    assert strategy._mutation == Mutation(weights=0.8, perturbed=0.9, node=0.03, connection=0.05)


def test_starts_minimal():
    strategy = NEAT(space_of(), seed=0)
    for number in range(20):
        genome = strategy.space.genome(strategy.ask(number))
        assert [gene[:3] for gene in genome.genes] == [(0, 0, 3), (0, 1, 3), (0, 2, 3)]


def test_species_hold_the_population_and_share_its_offspring():
    strategy = NEAT(space_of(), seed=1, population_size=40)
    play(strategy, 40 * 12)
    assert strategy.generation == 12
    assert len(strategy.species) > 1
    assert sum(len(species.members) for species in strategy.species) == 40
    assert sum(species.quota for species in strategy.species) == 40
    for species in strategy.species:
        fitness = [fitness for _, fitness in species.members]
        assert fitness == sorted(fitness, reverse=True)
    # In proportion to the mean fitness, rounded.
    means = np.array([np.mean([f for _, f in s.members]) for s in strategy.species])
    fertile = np.array([s.quota > 0 for s in strategy.species])
    exact = means * fertile / (means * fertile).sum() * 40
    assert np.abs([s.quota for s in strategy.species] - exact).max() < 1


def test_champions_of_large_species_are_proposed_again_in_any_run_of_proposals():
    strategy = NEAT(space_of(), seed=1, population_size=40)
    play(strategy, 40 * 6)
    champions = {
        s.members[0][0].to_json() for s in strategy.species if len(s.members) > 5 and s.quota
    }
    assert champions
    for start in (240, 247):
        proposed = {strategy.ask(number)[GENOME] for number in range(start, start + 40)}
        assert champions <= proposed


def test_a_species_that_does_not_improve_has_no_offspring():
    strategy = NEAT(space_of(), seed=0, population_size=20, threshold=2.0, max_stagnation=3)
    large = add_node(genome_of((0, 0, 3, 0.0)), 1, np.random.default_rng(0))
    for generation in range(4):
        for i in range(20):
            genome = genome_of((0, 0, 3, 0.0)) if i % 2 else large
            strategy.tell(
                strategy.space.validate({GENOME: genome.to_json()}),
                5.0 if i % 2 else 1.0 + generation,
            )
    stagnant, improving = sorted(strategy.species, key=lambda s: -s.members[0][1])
    assert (stagnant.quota, improving.quota) == (0, 20)


def test_negative_fitness_is_counted_from_the_worst():
    strategy = NEAT(space_of(), seed=0, **SMALL)
    for i in range(10):
        strategy.tell(strategy.ask(), -100.0 + i)
    assert [s.quota for s in strategy.species] == [10]
    assert strategy.species[0].members[0][1] == 9.0


def test_needs_genomes():
    with pytest.raises(UnsupportedSpaceError, match="expected a nas_plugins.neat.GenomeSpace"):
        NEAT(toy_space())
    with pytest.raises(ValueError, match="population_size is 1"):
        NEAT(space_of(), population_size=1)
    with pytest.raises(UnsupportedSpaceError, match="0 inputs"):
        space_of(inputs=0)


def test_other_strategies_evolve_genomes_too():
    strategy = RegularizedEvolution(space_of(), seed=0, population_size=10, sample_size=5)
    told = play(strategy, 100)
    assert max(len(strategy.space.genome(a).nodes) for a, _ in told) > 4


# -- hosts ------------------------------------------------------------------------------


def test_optuna_carries_the_genome_as_a_user_attribute_and_resumes():
    from nas_plugins.optuna import ArchitectureSampler, architecture_of, suggest

    space = space_of()

    def objective(trial):
        return float(xor([space.genome(suggest(trial, space))])[0][0])

    study = optuna.create_study(direction="maximize")
    for _ in range(2):  # the second sampler reads what the first left
        study.sampler = ArchitectureSampler(NEAT(space, seed=0, **SMALL))
        study.optimize(objective, n_trials=20)
    alone = [architecture for architecture, _ in play(NEAT(space, seed=0, **SMALL), 40)]
    assert [architecture_of(trial, space) for trial in study.trials] == alone
    study.enqueue_trial({}, user_attrs=dict(alone[3]))
    study.optimize(objective, n_trials=1)
    assert architecture_of(study.trials[-1], space) == alone[3]
    with pytest.raises(UnsupportedSpaceError, match="no user attribute 'genome'"):
        suggest(optuna.create_study().ask(), space)


def test_nni_carries_the_genome_as_a_parameter():
    from nas_plugins.nni import ArchitectureTuner

    space = space_of()
    tuner = ArchitectureTuner(
        strategy="nas_plugins.neat:NEAT",
        space="nas_plugins.neat:GenomeSpace",
        space_options={"inputs": 2, "outputs": 1},
        **SMALL,
    )
    tuner.update_search_space({GENOME: {"_type": "choice", "_value": ["minimal"]}})
    proposed = []
    for number in range(40):
        parameters = tuner.generate_parameters(number)
        [fitness], _ = xor([space.genome(parameters)])
        tuner.receive_trial_result(number, parameters, float(fitness), trial_job_id=str(number))
        proposed.append(parameters)
    assert proposed == [dict(a) for a, _ in play(NEAT(space, seed=0, **SMALL), 40)]


# -- the paper's tasks ------------------------------------------------------------------


def test_solves_xor_with_hidden_nodes():
    for seed in (0, 1, 6):  # quick ones; benchmarks.neat has the mean
        evaluations, genome = search(TASKS["xor"], seed, 5_000)
        assert evaluations < 5_000
        assert len(genome.nodes) > 4  # without a hidden node there is no solution


def test_the_cart_keeps_its_energy_without_force_and_friction(monkeypatch):
    monkeypatch.setattr(neat_tasks, "POLE_FRICTION", 0.0)

    def energy(states):
        x_speed, angles, speeds = states[0, 1], states[0, 2::2], states[0, 3::2]
        masses, halves = np.array([0.1, 0.01]), np.array([0.5, 0.05])
        kinetic = (
            0.5 * x_speed**2
            + (
                masses
                * (
                    0.5 * x_speed**2
                    + x_speed * halves * speeds * np.cos(angles)
                    + 2 / 3 * (halves * speeds) ** 2
                )
            ).sum()
        )
        return kinetic + (masses * 9.8 * halves * np.cos(angles)).sum()

    states = np.array([[0.1, 0.3, 0.2, -0.5, -0.1, 0.4]])
    before = energy(states)
    for _ in range(25):
        states = step(states, np.zeros(1))
    assert energy(states) == pytest.approx(before, abs=1e-5)
    assert derivatives(states, np.array([10.0]))[0, 1] > derivatives(states, np.zeros(1))[0, 1]


def test_carts_that_fail_drop_out_of_those_that_run():
    push, still = (0, 6, 7, 5.0), (0, 6, 7, 0.0)  # the bias alone: full force, or none
    genomes = [Genome.of(6, 1, [Gene(*gene)]) for gene in (push, still, push)]
    starts = np.zeros((3, 6))
    lasted = drive(genomes, starts, steps=300, velocities=True).lasted
    assert lasted[0] == lasted[2] < 60
    assert lasted[1] == 300  # upright poles stay
