# Asynchronous training: LeNet-5, convnet, and 12 rejectors with S = 1, 100, 1,000 and |D|, at batch 16.
# needs: CIFAR-10
# takes: 50 minutes a seed on one core
need_data "$cifar10" CIFAR10
no_seeds_in_extra
edge="--edge_net convnet --epochs 8 --batch_size 16 --lr 0.0125 --weight_decay 5e-4 --schedule cosine"
if [ "${FAST:-0}" = 1 ]; then edge=; else edge+=" --lr_rejector 0.005 --progress_every 250"; fi
chain=(env -u SEEDS DATASETS="$cifar10"
  EXTRA="$edge --augment flip_crop --data_root $data_root --seeds ${seeds[*]} ${EXTRA:-}")
for step in train eval plot; do "${chain[@]}" bash "$step-async.sh" "$run"; done
files=("async/figures/*-async_study.png") predictions=(async)
tables=(cifar10-async)
