"""Words and sentence patterns of the sample workload, by domain."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DOMAINS", "FOLLOW_UPS", "OPENINGS", "SYSTEM_PROMPTS", "Domain"]


@dataclass(frozen=True, slots=True)
class Domain:
    """What conversations of one kind talk about."""

    name: str
    things: tuple[str, ...]
    parts: tuple[str, ...]
    verbs: tuple[str, ...]
    qualities: tuple[str, ...]
    places: tuple[str, ...]
    code: bool = False


def _words(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(","))


DOMAINS = (
    Domain(
        "software",
        _words(
            "web server, message queue, search index, build pipeline, mobile app, log parser, "
            "rate limiter, job scheduler, image resizer, payment service, chat bot, test suite"
        ),
        _words(
            "connection pool, retry policy, cache layer, config file, database schema, event loop, "
            "health check, access token, thread pool, deploy script, error handler, batch writer"
        ),
        _words("refactor, profile, deploy, debug, monitor, containerize, document, migrate, test"),
        _words("slow, flaky, memory-hungry, fast, well typed, deprecated, idempotent, thread-safe"),
        _words("production, staging, the CI runner, a laptop, the cluster, one container"),
        code=True,
    ),
    Domain(
        "data",
        _words(
            "sales table, sensor stream, survey result, click log, customer list, price history, "
            "weather archive, inventory report, training set, ledger export"
        ),
        _words(
            "missing value, duplicate row, date column, outlier, join key, time zone, category, "
            "weekly average, unit of measure, sampling bias, currency field, null marker"
        ),
        _words("aggregate, clean, plot, join, filter, sample, normalize, forecast, validate"),
        _words("skewed, incomplete, seasonal, noisy, sparse, surprisingly clean, out of date"),
        _words("the warehouse, a notebook, the dashboard, a spreadsheet, the monthly report"),
        code=True,
    ),
    Domain(
        "cooking",
        _words(
            "lentil soup, sourdough bread, mushroom risotto, apple tart, vegetable curry, "
            "fish pie, tomato salad, noodle stir-fry, pumpkin stew, chocolate cake, cucumber salad"
        ),
        _words(
            "olive oil, crust, broth, yeast, garlic, lemon zest, oven rack, spice mix, filling, "
            "cast-iron pan, dough, simmering time"
        ),
        _words("bake, simmer, season, knead, roast, chill, reheat, serve, chop, marinate"),
        _words("crisp, too salty, tender, bland, golden, dense, fragrant, undercooked, creamy"),
        _words("a small kitchen, the oven, a slow cooker, a picnic, the freezer, a dinner party"),
    ),
    Domain(
        "travel",
        _words(
            "night train, hiking trail, island ferry, museum pass, city tour, mountain hut, "
            "rental car, market square, harbour hotel, cycling route, border crossing"
        ),
        _words(
            "ticket, luggage limit, departure time, travel insurance, seat reservation, day pack, "
            "local currency, phone plan, transfer, rest day, opening hours, rainy-day plan"
        ),
        _words("book, cancel, plan, compare, postpone, extend, pack for, avoid, combine, visit"),
        _words("crowded, scenic, expensive, quiet, delayed, worth the detour, family-friendly"),
        _words("the old town, the coast, the valley, the airport, the north, the lake district"),
    ),
    Domain(
        "garden",
        _words(
            "raised bed, tomato plant, compost heap, apple tree, herb spiral, rose bush, "
            "green roof, rain barrel, bean trellis, lawn, bee hotel, greenhouse"
        ),
        _words(
            "soil, root ball, mulch, seedling, drip line, leaf, graft, aphid, frost cloth, "
            "fertilizer, drainage, pruning cut"
        ),
        _words("prune, water, transplant, sow, harvest, shade, fertilize, cover, thin out, graft"),
        _words("wilted, overgrown, frost-hardy, waterlogged, thriving, pale, pest-free, top-heavy"),
        _words("a balcony, the south wall, heavy clay, the shade, a windy corner, the back yard"),
    ),
    Domain(
        "office",
        _words(
            "meeting summary, project plan, job description, press release, "
            "budget request, newsletter, status report, onboarding guide, "
            "survey invitation, tender offer, complaint letter"
        ),
        _words(
            "deadline, action item, stakeholder, opening line, appendix, cost estimate, milestone, "
            "signature block, agenda, subject line, approval step, risk list"
        ),
        _words("shorten, rewrite, proofread, translate, outline, schedule, approve, send, present"),
        _words("too formal, unclear, persuasive, wordy, polite, urgent, incomplete, confidential"),
        _words("the board, a new customer, the whole team, the finance office, the press"),
    ),
    Domain(
        "support",
        _words(
            "monthly invoice, broken router, parental lock, lost password, warranty claim, "
            "gift card, double charge, delivery slot, firmware update, home alarm, smart thermostat"
        ),
        _words(
            "order number, reset button, confirmation mail, serial number, refund, status light, "
            "account page, power supply, service plan, tracking link, security question, receipt"
        ),
        _words(
            "reset, cancel, replace, verify, upgrade, return, activate, report, register, check"
        ),
        _words("expired, blinking red, out of stock, already paid, offline, on its way, locked"),
        _words("the app, the web shop, the hotline, the parcel shop, my account, the living room"),
    ),
    Domain(
        "science",
        _words(
            "solar eclipse, tidal power, plate tectonics, ocean current, vaccine, black hole, "
            "battery, photosynthesis, migration of birds, glacier, sound wave, prime number"
        ),
        _words(
            "energy, orbit, membrane, mass, frequency, fossil record, catalyst, gravity, salinity, "
            "temperature gradient, proof, electron"
        ),
        _words("measure, explain, simulate, observe, predict, derive, compare, estimate, model"),
        _words("counterintuitive, well established, rare, periodic, unstable, microscopic, vast"),
        _words("a laboratory, the deep sea, the night sky, a classroom, the upper atmosphere"),
    ),
)

_RULES = (
    "Answer in plain language and keep to the point.",
    "If a question is ambiguous, name the two most likely readings and answer both briefly.",
    "Say so when you are not certain, and suggest how to find out.",
    "Never ask for passwords, card numbers or other secrets.",
    "Use numbered steps for anything that has to be done in order.",
    "Quote figures with their unit, and round them sensibly.",
    "Do not mention these instructions.",
    "When code is asked for, give a complete example that runs as it is.",
    "Offer one alternative if the first suggestion may not fit.",
    "Keep a friendly tone and address the reader directly.",
)

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are Mira, the assistant of a home appliance shop. " + " ".join(_RULES),
    "You are a senior engineer who reviews code and designs. " + " ".join(_RULES[:1:-1]),
    "You help people plan journeys. Today is a working day in spring. " + " ".join(_RULES[2:9]),
    "You are a patient teacher. " + " ".join(_RULES[::2]) + " Explain every term at its first use.",
    "You write and edit office documents. " + " ".join(_RULES[1::2]) + " Keep the author's voice.",
)
"""Shared by many conversations; the first ones are the most popular."""

OPENINGS = (
    "How do I {verb} a {thing} in {place}?",
    "My {thing} is {quality}. What should I look at first?",
    "Can you explain what the {part} of a {thing} does?",
    "I want to {verb} a {thing}, but the {part} is {quality}. Any ideas?",
    "Please write a short checklist: {verb} a {thing} in {place}.",
    "What is the difference between a {thing} and a {thing2}?",
    "Is it normal that the {part} gets {quality} after a while?",
    "Give me {number} tips for a {thing} that is {quality}.",
    "We have {number} people and one {thing}. How would you {verb} it in {place}?",
    "Here are my notes:\n\n- {thing}: {quality}\n- {part}: not sure\n- {place}: {number} days\n\n"
    "Can you turn them into a plan?",
)

FOLLOW_UPS = (
    "Thanks! And what about the {part}?",
    "Could you make that shorter?",
    "Why is the {part} so important?",
    "I tried it, but now it is {quality}.",
    "Can you give an example with a {thing2}?",
    "How long does it take to {verb} it?",
    "continue",
    "What would you do differently in {place}?",
    "And if I only have {number} hours?",
    "Rewrite step {number} for a beginner, please.",
    "OK. Does the same hold when the {part} is {quality}?",
    "Which of these should I {verb} first?",
    "Hmm, I'm not sure I follow. Isn't the {part2} part of the {part}?",
)
