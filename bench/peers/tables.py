"""The results as a Markdown page."""

MIB = 1 << 20


def page(results):
    """Every table that has rows, under a heading that says when and where."""
    settings = results["settings"]
    parts = [
        "# Attune and its peers",
        "",
        f"Measured {settings['date']} on {settings['cpu']} ({settings['cores']} cores, {settings['memory_bytes'] / (1 << 30):.0f} GiB), "
        f"{settings['threads']} threads, batch 1, in {settings['seconds']} s by `{settings['command'].strip()}`. Other guests of the same host took {100 * settings['stolen']:.1f} % of the processor.",
        f"Peers: {', '.join(f'{name} {version}' for name, version in sorted(settings['versions'].items()))}.",
        f"The programs took turns in {settings['rounds']} rounds; each cell is the median (smallest to largest), a ratio that of the medians. Models have the "
        "shapes of the named ones and random weights (`attune bench --shape`).",
        "",
    ]
    for title, rows in [
        (f"Answering: tokens a second, against llama.cpp (prompt of {settings['prompt']}, answer of {settings['answer']})", answering(results)),
        ("From opening the file to the first token: milliseconds, against llama.cpp", opening(results)),
        (f"Training, LoRA of rank {settings['rank']} on all seven linears: tokens a second, against PyTorch with PEFT", training(results)),
        ("A step of DPO, a pair of answers to one prompt: tokens a second, against TRL", preferring(results)),
        ("Memory of a training step: MiB besides the base's weights", memory(results)),
        ("Share of the machine's limits (of the last round)", shares(results)),
        ("The machine's limits (of the last round)", limits(results)),
    ]:
        if len(rows) > 2:
            parts += [f"## {title}", "", *rows, ""]
    parts += failures(results)
    return "\n".join(parts).rstrip() + "\n"


def line(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*names):
    return [line(*names), "|" + "|".join("---" if i < 1 else "---:" for i in range(len(names))) + "|"]


def figures(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def cell(spread):
    return f"{figures(spread['median'])} ({figures(spread['min'])} to {figures(spread['max'])})"


def answering(results):
    rows = head("model", "prefill: Attune", "llama.cpp", "ratio", "decode: Attune", "llama.cpp", "ratio")
    good = [row for row in results["answering"] if "failed" not in row]
    for row in good:
        cells = [f"{row['shape']} {row['type']}"]
        for work in ("prefill", "decode"):
            cells += [cell(row[work]["attune"]), cell(row[work]["peer"]), f"**{row[work]['ratio']:.2f}**"]
        rows.append(line(*cells))
    if len(good) > 1:
        means = [sum(row[work]["ratio"] for row in good) / len(good) for work in ("prefill", "decode")]
        rows.append(line("average of the ratios", "", "", f"**{means[0]:.2f}**", "", "", f"**{means[1]:.2f}**"))
    return rows


def opening(results):
    rows = head("model", "Attune", "llama.cpp", "ratio")
    for row in results["opening"]:
        if "failed" not in row:
            first = row["first_token"]
            rows.append(line(f"{row['shape']} {row['type']}", cell(first["attune"]), cell(first["peer"]), f"**{first['ratio']:.2f}**"))
    return rows


def training(results):
    rows = head("model, tokens", "Attune", "PyTorch f32", "PyTorch bf16", "ratio to the faster", "TRL's trainer", "forward, backward, update ms", "PyTorch's")
    for row in results["training"]:
        if "failed" not in row:
            last, faster = row["attune"][-1]["train"], row[row["faster"]][-1]["steps"][-1]
            parts = ", ".join(figures(last[part]["median"]) for part in ("forward_ms", "backward_ms", "update_ms"))
            others = ", ".join(figures(faster[part] * 1e3) for part in ("forward", "backward", "update"))
            speeds = row["speeds"]
            rows.append(
                line(
                    f"{row['shape']}, {row['tokens']}",
                    cell(row["speed"]["attune"]),
                    cell(speeds["float32"]),
                    cell(speeds["bfloat16"]),
                    f"**{row['speed']['ratio']:.2f}**",
                    cell(row["trl"]) if row.get("trl") else "",
                    parts,
                    others,
                )
            )
    return rows


def preferring(results):
    rows = head("model, tokens, of them shared", "", "Attune", "TRL", "ratio", "TRL's")
    for row in results.get("preferring", []):
        if "failed" not in row:
            name = f"{row['shape']}, 2 x {row['tokens'] // 2}, {row['shared']}"
            for what, words in [("step", "a step, the reference computed before"), ("whole", "the whole command with the reference; TRL's step computes it")]:
                one = row[what]
                rows.append(line(name, words, cell(one["attune"]), cell(one["peer"]), f"**{one['ratio']:.2f}**", one["peer_is"]))
    return rows


def memory(results):
    rows = head("model, tokens", "Attune", "planned", "PyTorch f32", "PyTorch bf16", "of it libraries", "ratio to the faster")
    for row in results["training"]:
        if "failed" not in row:
            taken = row["memory"]
            planned = row["attune"][-1]["train"]["planned_bytes"]
            cells = [f"{n / MIB:.0f}" for n in (taken["attune"], planned, taken["float32"], taken["bfloat16"], row["libraries"])]
            rows.append(line(f"{row['shape']}, {row['tokens']}", *cells, f"**{taken['attune'] / taken[row['faster']]:.3f}**"))
    return rows


def percent(x):
    return "" if x is None else f"{100 * x:.0f} %"


def shares(results):
    rows = head("work", "Gop/s", "of f32", "of int8", "of bf16 tiles", "of int8 tiles", "of the file's reading rate")

    def row(name, ops):
        if ops:
            rows.append(line(name, figures(ops["ops"] / 1e9), *(percent(ops[k]) for k in ("of_f32", "of_int8", "of_tile_bf16", "of_tile_int8")), ""))

    for measured in results["answering"]:
        if "failed" not in measured:
            last = measured["attune"][-1]
            name = f"{measured['shape']} {measured['type']}"
            row(f"prefill, {name}", last["prefill_ops"])
            rows.append(line(f"decode, {name}", "", "", "", "", "", percent(last["decode_share_of_read"])))
    for measured in results["training"]:
        if "failed" not in measured:
            last = measured["attune"][-1]["train"]
            for half in ("forward", "backward"):
                row(f"{half}, {measured['shape']}, {measured['tokens']} tokens", last[half])
    return rows


def limits(results):
    rows = head("", "memory GB/s", "file GB/s", "f32 Gop/s", "int8", "bf16 tiles", "int8 tiles")
    for measured in results["answering"]:
        found = "failed" not in measured and measured["attune"][-1]["limits"]
        if found:
            kinds = [found[k] for k in ("f32_ops", "int8_ops", "tile_bf16_ops", "tile_int8_ops")]
            cells = [figures(found["memory_bytes"] / 1e9), figures(found["weights_bytes"] / 1e9), *("" if k is None else figures(k / 1e9) for k in kinds)]
            rows.append(line(f"{measured['shape']} {measured['type']}", *cells))
    return rows


def failures(results):
    rows = [row for part in ("answering", "opening", "training", "preferring") for row in results[part] if "failed" in row]
    if not rows:
        return []
    return ["## What failed", "", *(f"- {row['shape']} {row.get('type', '')}: {row['failed']}" for row in rows), ""]
