# MiniLM with an exit after each of its six layers, on four tasks of GLUE: how early texts can leave.
# needs: MINILM, its folder as transformers saves it; GLUE, a folder with RTE, MRPC, CoLA and SST-2
# takes: 9 hours on one core: 40 minutes a seed for SST-2, 2 hours for the other tasks. METHODS names fewer
minilm=${MINILM:-datasets/minilm} glue=${GLUE:-datasets/glue}
read -ra tasks <<< "${TASKS:-RTE MRPC CoLA SST-2}"
for file in config.json model.safetensors tokenizer.json; do
  need "$minilm/$file" "set MINILM to the folder of all-MiniLM-L6-v2 as transformers saves it"
done
for task in "${tasks[@]}"; do
  need "$glue/$task/train.tsv" "set GLUE to a folder with the folders of GLUE's tasks"
done

bert=(--arch bert --model_path "$minilm" --exits 1-2-3-4-5-6 --optimizer adamw --schedule linear
  --warmup 0.1 --batch_size 32 --group_by_length)
for task in "${tasks[@]}"; do
  by_default="base l2w boosted" epochs=5
  if [ "$task" = SST-2 ]; then by_default=base epochs=3; fi
  read -ra methods <<< "${METHODS:-$by_default}"
  if [ "${FAST:-0}" = 1 ]; then epochs=1; fi
  for method in "${methods[@]}"; do
    meta=()
    if [ "$method" = l2w ]; then meta=(--meta_interval 4); fi # 1 would take 3.7 times base's time
    exits "$glue/$task" "$task" "$method" "${bert[@]}" --epochs "$epochs" ${meta[@]+"${meta[@]}"}
  done
done
tables=(glue-minilm glue-minilm-speed-up)
